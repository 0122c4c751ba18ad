//! Metrics of the requests to the Android Management API.

use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::{
    MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};
use tokio::time::Instant;

use super::{
    calls::{DURATIONS, OTHER},
    observed::Observed,
    registry::{BucketBounds, Label, Registry, SeriesLabels},
};
use crate::telemetry::history::UpstreamHistory;

/// The values of `http_request_method`: that of a read, and that of a cancel.
const METHODS: [&str; 2] = ["GET", "POST"];

/// The values of `attempt`. The last is for a hedge.
const ATTEMPTS: [&str; 5] = ["1", "2", "3", "4", "hedge"];

/// The HTTP statuses that are values of `http_response_status_code`, and those of [`UNLISTED`].
const STATUSES: [&str; 45] = [
    "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401", "402", "403",
    "404", "405", "406", "407", "408", "409", "410", "411", "412", "413", "414", "415", "416", "417", "421",
    "422", "423", "425", "426", "428", "429", "431", "451", "499", "500", "501", "502", "503", "504", "511",
];

/// The labels of the other statuses: below 400, below 500, and the rest. `4xx` keeps the caller's errors apart from the
/// upstream's.
const UNLISTED: [(&str, &str); 3] = [(OTHER, ""), (OTHER, "4xx"), (OTHER, OTHER)];

/// The values of `error_type` without a response, in the order of [`RequestFailure`].
const FAILURES: [&str; 6] = ["timeout", "connect", "refused", "reset", "not_http", "abandoned"];

/// The number of outcomes of a request with a response.
const RESPONSES: usize = STATUSES.len() + UNLISTED.len();

/// The number of outcomes of a request.
const OUTCOMES: usize = RESPONSES + FAILURES.len();

/// The number of a request's try among those of one upstream call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestAttempt {
    /// The first try is 1. A requeued request, and one that is sent again after a 401, keep the number of their try.
    /// Numbers above 4 count as 4.
    Number(u32),
    /// A request that is sent while an earlier one has no response yet.
    Hedge,
}

impl RequestAttempt {
    /// The index in [`ATTEMPTS`].
    fn index(self) -> usize {
        match self {
            Self::Number(number) => number.clamp(1, 4) as usize - 1,
            Self::Hedge => 4,
        }
    }
}

/// The reason why a request has no response, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// No response in time, or another request of the same upstream call was answered first.
    Timeout,
    /// No connection.
    Connect,
    /// The peer did not process the request, for example because it is closing the connection.
    Refused,
    /// The connection or the stream was lost after the request was sent.
    Reset,
    /// The peer does not speak HTTP.
    NotHttp,
    /// A list over all devices needs no response: its page is complete, or its caller left.
    Abandoned,
}

/// The metrics of requests to the upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    durations: Family<SeriesLabels<4>, Histogram, BucketBounds>,
    /// The histograms that exist, by method, attempt and outcome, so that a request needs no look-up by labels.
    by_outcome: Box<[OnceLock<Histogram>]>,
    /// The calls that wait for an upstream slot.
    queued: Gauge,
    /// Tries after the first.
    pub retries: Counter,
    /// Hedges.
    pub hedges: Counter,
    /// Retries that the budget refused.
    pub budget_exhausted: Observed<0>,
    /// The retries that the budget has left for all callers.
    pub budget_available: Observed<0>,
    /// The last minutes.
    pub history: UpstreamHistory,
}

/// Measures a request until the head of its response. When dropped earlier, the request counts as a timeout.
#[derive(Debug)]
pub struct RequestMeasurement {
    metrics: Arc<UpstreamMetrics>,
    is_cancel: bool,
    attempt: RequestAttempt,
    started: Instant,
    is_complete: bool,
}

/// Counts a call as queued until it is dropped.
#[derive(Debug)]
pub struct QueuedCall<'a>(&'a Gauge);

impl UpstreamMetrics {
    pub(super) fn new(registry: &mut Registry) -> Arc<Self> {
        let durations = registry.histograms(
            "http_client_request_duration_seconds",
            "The time from the start of a request to the Android Management API, with the time for a connection, to the \
             head of its response",
            DURATIONS,
            [
                Label::one_of("http_request_method", &METHODS),
                Label::described(
                    "http_response_status_code",
                    "the HTTP status, `\"_OTHER\"` for an unusual one, `\"\"` without a response",
                ),
                Label::described(
                    "error_type",
                    "`\"\"` below status 400, otherwise the status. For an unusual one `\"4xx\"` below status 500, \
                     otherwise `\"_OTHER\"`. Without a response `\"timeout\"`, `\"connect\"`, \
                     `\"refused\"` (not processed by the upstream), `\"reset\"`, `\"not_http\"` or `\"abandoned\"` (a list \
                     over all devices ended before the response)",
                ),
                Label::one_of("attempt", &ATTEMPTS),
            ],
        );
        let queued = registry.gauge(
            "countermand_upstream_queued_calls",
            "The calls that wait, because the maximum of requests to the upstream is in flight",
        );
        let again = registry.counters(
            "countermand_retries_total",
            "The tries after the first: after a failure, or while the first request has no response (hedges). Tries \
             without a connection count too",
            [Label::one_of("kind", &["retry", "hedge"])],
        );
        Arc::new(Self {
            durations,
            by_outcome: (0..METHODS.len() * ATTEMPTS.len() * OUTCOMES).map(|_| OnceLock::new()).collect(),
            queued,
            retries: again.with(["retry"]),
            hedges: again.with(["hedge"]),
            budget_exhausted: registry.observed(
                "countermand_retry_budget_exhausted_total",
                "The retries and hedges that were not sent, because the retry budget had none left",
                MetricType::Counter,
                [],
            ),
            budget_available: registry.observed(
                "countermand_retry_budget_available",
                "The retries that the retry budget has left for all callers. One caller, or reads, may get fewer",
                MetricType::Gauge,
                [],
            ),
            history: UpstreamHistory::default(),
        })
    }

    /// Starts to measure a request.
    #[must_use]
    pub fn start(self: &Arc<Self>, is_cancel: bool, attempt: RequestAttempt) -> RequestMeasurement {
        let started = Instant::now();
        RequestMeasurement { metrics: Arc::clone(self), is_cancel, attempt, started, is_complete: false }
    }

    /// The calls that wait for a slot.
    #[must_use]
    pub fn queued(&self) -> i64 {
        self.queued.get()
    }

    /// Counts a call that waits for a slot.
    #[must_use]
    pub fn queue(&self) -> QueuedCall<'_> {
        self.queued.inc();
        QueuedCall(&self.queued)
    }
}

impl RequestMeasurement {
    /// Counts the response, with the three digits of its HTTP status.
    pub fn respond(mut self, http_status: &str) {
        self.count(response_outcome(http_status));
    }

    /// Counts a request without a response.
    pub fn fail(mut self, failure: RequestFailure) {
        self.count(RESPONSES + failure as usize);
    }

    /// Counts nothing, because there was no request.
    pub fn discard(mut self) {
        self.is_complete = true;
    }

    fn count(&mut self, outcome: usize) {
        self.is_complete = true;
        let (method, attempt) = (usize::from(self.is_cancel), self.attempt.index());
        let index = (method * ATTEMPTS.len() + attempt) * OUTCOMES + outcome;
        let histogram = self.metrics.by_outcome[index].get_or_init(|| {
            let (status, error) = outcome_labels(outcome);
            self.metrics.durations.get_or_create_owned(&[
                ("http_request_method", METHODS[method]),
                ("http_response_status_code", status),
                ("error_type", error),
                ("attempt", ATTEMPTS[attempt]),
            ])
        });
        let duration = self.started.elapsed();
        histogram.observe(duration.as_secs_f64());
        if outcome == RESPONSES + RequestFailure::Abandoned as usize {
            // It is no error of the upstream.
            return;
        }
        let (status, error) = outcome_labels(outcome);
        let code = if status.is_empty() { error } else { status };
        self.metrics.history.add(self.attempt, code, self.started, duration);
    }
}

/// The outcome of a response, with the three digits of its HTTP status.
fn response_outcome(http_status: &str) -> usize {
    let listed = STATUSES.iter().position(|listed| *listed == http_status);
    let unlisted = || match http_status.parse() {
        Ok(..400_u16) => 0,
        Ok(400..500) => 1,
        _ => 2,
    };
    listed.unwrap_or_else(|| STATUSES.len() + unlisted())
}

/// The values of `http_response_status_code` and `error_type`.
fn outcome_labels(outcome: usize) -> (&'static str, &'static str) {
    if let Some(failure) = outcome.checked_sub(RESPONSES) {
        return ("", FAILURES[failure]);
    }
    if let Some(unlisted) = outcome.checked_sub(STATUSES.len()) {
        return UNLISTED[unlisted];
    }
    let status = STATUSES[outcome];
    // The listed statuses have three digits each, so their order is that of the numbers.
    (status, if status < "400" { "" } else { status })
}

impl Drop for RequestMeasurement {
    fn drop(&mut self) {
        if !self.is_complete {
            self.count(RESPONSES + RequestFailure::Timeout as usize);
        }
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_type_of_a_response_follows_from_the_number_of_its_status() {
        for (status, labels) in [
            ("200", ("200", "")),
            ("207", (OTHER, "")),
            ("226", (OTHER, "")),
            ("300", (OTHER, "")),
            ("308", ("308", "")),
            ("400", ("400", "400")),
            ("410", ("410", "410")),
            ("416", ("416", "416")),
            ("428", ("428", "428")),
            ("418", (OTHER, "4xx")),
            ("499", ("499", "499")),
            ("500", ("500", "500")),
            ("511", ("511", "511")),
            ("520", (OTHER, OTHER)),
            ("999", (OTHER, OTHER)),
        ] {
            assert_eq!(outcome_labels(response_outcome(status)), labels, "{status}");
        }
        assert_eq!(outcome_labels(RESPONSES), ("", "timeout"));
        assert_eq!(outcome_labels(RESPONSES + RequestFailure::Abandoned as usize), ("", "abandoned"));
    }
}
