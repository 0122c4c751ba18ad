//! Retries: the only module that repeats a try. Within a try, [`super::attempt`] may send a hedge, and sends a request
//! again after a 401.
//!
//! A transient error (no connection, a reset before a response, 408, 425, 502, 503, 504) is retried after a backoff
//! with full jitter. A request has at most [`MAX_TRIES`] tries within the callers' deadlines. The budget in
//! [`super::retry_budget`] limits the retries of all calls, so that retries do not overload a failing upstream. A
//! request that the upstream did not process is requeued, which uses no try.

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use super::{
    error::Error,
    retry_budget::{RetryBudget, RetryUse},
};
use crate::{caller::Caller, flight::Flight, telemetry::metrics::UpstreamMetrics};

/// The maximum number of tries of a request, including the first.
const MAX_TRIES: u32 = 4;

/// The upper bound of the first backoff. It doubles with each try.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The first pause of a requeued request, in which a new connection can be established. The pause grows to
/// [`MAX_REQUEUE`], because the upstream may refuse every request.
const FIRST_REQUEUE: Duration = Duration::from_millis(5);
const MAX_REQUEUE: Duration = Duration::from_secs(1);

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

/// The tries of one call.
pub(super) struct Tries<'a> {
    budget: &'a RetryBudget,
    flight: &'a Flight,
    retry: RetryUse,
    /// The number of tries so far.
    used: AtomicU32,
    metrics: &'a UpstreamMetrics,
}

impl<'a> Tries<'a> {
    /// Counts the first try.
    pub(super) fn new(
        budget: &'a RetryBudget,
        flight: &'a Flight,
        retry: RetryUse,
        metrics: &'a UpstreamMetrics,
    ) -> Self {
        budget.deposit(caller(flight));
        Self { budget, flight, retry, used: AtomicU32::new(1), metrics }
    }

    /// The number of tries so far. A hedge is one of them.
    pub(super) fn number(&self) -> u32 {
        self.used.load(Relaxed)
    }

    /// Counts another try, which is a retry or a hedge. Returns `false` when the call or the budget has none left.
    pub(super) fn take(&self) -> bool {
        // The tries of one call are taken one after the other.
        let used = self.number();
        let is_allowed = used < MAX_TRIES && self.budget.withdraw(caller(self.flight), self.retry);
        if is_allowed {
            self.used.store(used + 1, Relaxed);
        }
        is_allowed
    }

    /// Runs attempts until one succeeds or no other attempt is allowed.
    pub(super) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, FailedAttempt>>,
    {
        let mut requeues = 0;
        let mut previous = None;
        loop {
            let FailedAttempt { error, next } = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            // QUOTA_BUDGET tells the caller that Google received nothing.
            let error = match previous {
                Some(previous) if matches!(error, Error::QuotaBudget { .. }) => return Err(previous),
                _ => error,
            };
            // A pause beyond the deadline would replace the cause by DEADLINE_EXCEEDED.
            let pause = match next {
                Next::Stop => return Err(error),
                Next::Retry { not_before } => retry_pause(self.number(), fastrand::f64()).max(not_before),
                Next::Requeue => {
                    requeues += 1;
                    requeue_pause(requeues, fastrand::f64())
                }
            };
            let is_retry = matches!(next, Next::Retry { .. });
            if pause >= self.flight.time_left() || (is_retry && !self.take()) {
                return Err(error);
            }
            if self.flight.begin(tokio::time::sleep(pause)).await.is_err() {
                return Err(error);
            }
            self.metrics.retries.inc_by(u64::from(is_retry));
            previous = Some(error);
        }
    }
}

/// The caller whose retries the budget counts. `None` for a poll of a WaitOperation, because its waiters share it.
fn caller(flight: &Flight) -> Option<&Caller> {
    flight.caller().filter(|_| flight.is_part() || !flight.is_poll())
}

/// The pause before another try, after `tries` of them. `random` is in 0..1.
fn retry_pause(tries: u32, random: f64) -> Duration {
    let max = FIRST_BACKOFF * 2_u32.pow(tries.clamp(1, MAX_TRIES) - 1);
    max.mul_f64(random)
}

/// The pause before the request is requeued for the n-th time. `random` is in 0..1.
fn requeue_pause(requeues: u32, random: f64) -> Duration {
    let max = (FIRST_REQUEUE * 2_u32.pow((requeues - 1).min(10))).min(MAX_REQUEUE);
    max.mul_f64(0.5 + 0.5 * random)
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
