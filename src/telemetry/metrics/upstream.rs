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

/// The values of `http_request_method`: that of a read, and that of a cancel.
const METHODS: [&str; 2] = ["GET", "POST"];

/// The values of `attempt`. The last is for a hedge.
const ATTEMPTS: [&str; 5] = ["1", "2", "3", "4", "hedge"];

/// The HTTP statuses that are values of `http_response_status_code`. Any other status is `_OTHER`.
const STATUSES: [&str; 37] = [
    "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401", "403", "404",
    "405", "407", "408", "409", "411", "412", "413", "414", "415", "421", "425", "429", "431", "451", "499",
    "500", "501", "502", "503", "504", "511", OTHER,
];

/// The values of `error_type` without a response, in the order of [`RequestFailure`].
const FAILURES: [&str; 5] = ["timeout", "connect", "refused", "reset", "not_http"];

/// The number of outcomes of a request.
const OUTCOMES: usize = STATUSES.len() + FAILURES.len();

/// The number of a request's try among those of one upstream call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestAttempt {
    /// The first try is 1. A requeued request, and one that is sent again after a 401, keep the number of their try.
    /// Numbers above 4 count as 4.
    Number(u32),
    /// A request that is sent while an earlier one has no response yet.
    Hedge,
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
}

/// Measures a request until the head of its response. When dropped earlier, the request counts as a timeout.
#[derive(Debug)]
pub struct RequestMeasurement {
    metrics: Arc<UpstreamMetrics>,
    is_cancel: bool,
    attempt: usize,
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
                    "`\"\"` below status 400, otherwise the status. Without a response `\"timeout\"`, `\"connect\"`, \
                     `\"refused\"` (not processed by the upstream), `\"reset\"` or `\"not_http\"`",
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
        })
    }

    /// Starts to measure a request.
    #[must_use]
    pub fn start(self: &Arc<Self>, is_cancel: bool, attempt: RequestAttempt) -> RequestMeasurement {
        let attempt = match attempt {
            RequestAttempt::Number(number) => number.clamp(1, 4) as usize - 1,
            RequestAttempt::Hedge => 4,
        };
        let started = Instant::now();
        RequestMeasurement { metrics: Arc::clone(self), is_cancel, attempt, started, is_complete: false }
    }

    /// Counts a call that waits for a slot.
    #[must_use]
    pub fn queue(&self) -> QueuedCall<'_> {
        self.queued.inc();
        QueuedCall(&self.queued)
    }
}

impl RequestMeasurement {
    /// Counts the response, with its HTTP status.
    pub fn respond(mut self, http_status: &str) {
        let known = STATUSES.iter().position(|known| *known == http_status);
        self.count(known.unwrap_or(STATUSES.len() - 1));
    }

    /// Counts a request without a response.
    pub fn fail(mut self, failure: RequestFailure) {
        self.count(STATUSES.len() + failure as usize);
    }

    /// Counts nothing, because there was no request.
    pub fn discard(mut self) {
        self.is_complete = true;
    }

    fn count(&mut self, outcome: usize) {
        self.is_complete = true;
        let method = usize::from(self.is_cancel);
        let index = (method * ATTEMPTS.len() + self.attempt) * OUTCOMES + outcome;
        let histogram = self.metrics.by_outcome[index].get_or_init(|| {
            let (status, error) = match outcome.checked_sub(STATUSES.len()) {
                Some(failure) => ("", FAILURES[failure]),
                None if STATUSES[outcome] < "400" => (STATUSES[outcome], ""),
                None => (STATUSES[outcome], STATUSES[outcome]),
            };
            self.metrics.durations.get_or_create_owned(&[
                ("http_request_method", METHODS[method]),
                ("http_response_status_code", status),
                ("error_type", error),
                ("attempt", ATTEMPTS[self.attempt]),
            ])
        });
        histogram.observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for RequestMeasurement {
    fn drop(&mut self) {
        if !self.is_complete {
            self.count(STATUSES.len() + RequestFailure::Timeout as usize);
        }
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
