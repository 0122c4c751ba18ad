//! Retries. No other module sends a request again.
//!
//! A transient error (no connection, a reset before a response, 408, 425, 502, 503, 504) is retried after a backoff
//! with full jitter. A request has at most [`MAX_TRIES`] tries within the callers' deadlines. A retry budget limits
//! the retries of all calls to a fifth of the requests, so that retries do not overload a failing upstream. A
//! request that the upstream did not process is requeued, which uses no try.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower::retry::budget::{Budget as _, TpsBudget};

use super::error::Error;
use crate::{flight::Flight, telemetry::metrics::UpstreamMetrics};

/// The maximum number of tries of a request, including the first.
const MAX_TRIES: u32 = 4;

/// The upper bound of the first backoff. It doubles with each try.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The first pause of a requeued request, in which a new connection can be established. The pause grows to
/// [`MAX_REQUEUE`], because the upstream may refuse every request.
const FIRST_REQUEUE: Duration = Duration::from_millis(5);
const MAX_REQUEUE: Duration = Duration::from_secs(1);

/// The retry budget: a fifth of the requests in ten seconds, and a floor of ten retries per second, so that the
/// first call may retry too.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_SHARE: f32 = 0.2;
const BUDGET_FLOOR: u32 = 10;

/// The error of an attempt, and the next step.
#[derive(Debug)]
pub(super) struct FailedAttempt {
    pub(super) error: Error,
    pub(super) next: Next,
}

/// The step after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The error is permanent: no other attempt.
    Stop,
    /// Another try, at the earliest after the upstream's `Retry-After`.
    Retry { not_before: Duration },
    /// The same try again, because the upstream did not process the request.
    Requeue,
}

/// The retry budget of one upstream, shared by all its calls.
pub(super) struct Retries {
    budget: TpsBudget,
    metrics: Arc<UpstreamMetrics>,
}

impl Retries {
    pub(super) fn new(metrics: Arc<UpstreamMetrics>) -> Self {
        Self { budget: TpsBudget::new(BUDGET_WINDOW, BUDGET_FLOOR, BUDGET_SHARE), metrics }
    }

    /// Runs attempts until one succeeds or no other attempt is allowed.
    pub(super) async fn run<T, F>(&self, flight: &Flight, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, FailedAttempt>>,
    {
        self.budget.deposit();
        let mut backoff = Backoff { tries: 1, requeues: 0 };
        loop {
            let FailedAttempt { error, next } = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            // A pause beyond the deadline would replace the cause by DEADLINE_EXCEEDED.
            let pause = backoff.pause(next, fastrand::f64()).filter(|pause| *pause < flight.time_left());
            let Some(pause) = pause else { return Err(error) };
            let is_retry = matches!(next, Next::Retry { .. });
            if is_retry && !self.budget.withdraw() {
                self.metrics.budget_exhausted.inc();
                return Err(error);
            }
            if flight.begin(tokio::time::sleep(pause)).await.is_err() {
                return Err(error);
            }
            self.metrics.retries.inc_by(u64::from(is_retry));
        }
    }
}

/// The pauses between the attempts of one call.
struct Backoff {
    tries: u32,
    requeues: u32,
}

impl Backoff {
    /// The pause before the next attempt; `None` when no attempt is allowed. `random` is in 0..1.
    fn pause(&mut self, next: Next, random: f64) -> Option<Duration> {
        match next {
            Next::Stop => None,
            Next::Retry { .. } if self.tries == MAX_TRIES => None,
            Next::Retry { not_before } => {
                let max = FIRST_BACKOFF * 2_u32.pow(self.tries - 1);
                self.tries += 1;
                Some(max.mul_f64(random).max(not_before))
            }
            Next::Requeue => {
                let max = (FIRST_REQUEUE * 2_u32.pow(self.requeues.min(10))).min(MAX_REQUEUE);
                self.requeues += 1;
                Some(max.mul_f64(0.5 + 0.5 * random))
            }
        }
    }
}

/// Parses a `Retry-After` header as a time from `now` (RFC 9110, section 10.2.3): whole seconds, or a date in one
/// of HTTP's three formats. A date in the past is zero. A number beyond 64 bits is `u64::MAX`. Otherwise returns
/// `None`.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim_matches([' ', '\t']);
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests;
