//! Retries: the one place where a request is sent again.
//!
//! A transient failure (no connection, a reset before a response, 408, 425, 502, 503, 504) is retried after a pause of full
//! jitter, at most [`MAX_TRIES`] times and while the callers' deadlines allow. Over all calls retries stay below a fifth
//! of the requests, with a floor, so that they do not bury an upstream in trouble. A request that the upstream did not
//! process uses up no try and queues again.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use tower::retry::budget::{Budget as _, TpsBudget};

use super::error::Error;
use crate::flight::Flight;

/// The most times that one request is sent, the first included.
const MAX_TRIES: u32 = 4;

/// The longest first pause; it doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pause of a request that queues again: long enough for a connection to settle. It grows up to a second, because
/// an upstream that refuses every request is asked in vain.
const FIRST_REQUEUE: Duration = Duration::from_millis(5);
const MAX_REQUEUE: Duration = Duration::from_secs(1);

/// The retry budget: a fifth of the requests of ten seconds, and ten retries a second in any case, so that a first
/// call may retry too.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_SHARE: f32 = 0.2;
const BUDGET_FLOOR: u32 = 10;

/// An attempt that failed, and what may follow it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) next: Next,
}

/// What may follow a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: another attempt would fail in the same way.
    Stop,
    /// Another try, not before the time that the upstream asked for.
    Retry { not_before: Duration },
    /// The same try again: the upstream did not process the request.
    Requeue,
}

/// The retry budget of one upstream, shared by all its calls.
pub(super) struct Retries(TpsBudget);

impl Retries {
    pub(super) fn new() -> Self {
        Self(TpsBudget::new(BUDGET_WINDOW, BUDGET_FLOOR, BUDGET_SHARE))
    }

    /// Runs attempts until one succeeds or none may follow.
    pub(super) async fn run<T, F>(&self, flight: &Flight, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        self.0.deposit();
        let mut backoff = Backoff { tries: 1, requeues: 0 };
        loop {
            let Failed { error, next } = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            // A pause that outlasts the deadline would only hide the cause behind it.
            let pause = backoff.pause(next, fastrand::f64()).filter(|pause| *pause < flight.left());
            let Some(pause) = pause else { return Err(error) };
            if matches!(next, Next::Retry { .. }) && !self.0.withdraw() {
                return Err(error);
            }
            if flight.begin(tokio::time::sleep(pause)).await.is_err() {
                return Err(error);
            }
        }
    }
}

/// The pauses between the attempts of one call.
struct Backoff {
    tries: u32,
    requeues: u32,
}

impl Backoff {
    /// The pause before the next attempt; `None` when no attempt may follow. `random` is in 0..1.
    fn pause(&mut self, next: Next, random: f64) -> Option<Duration> {
        match next {
            Next::Stop => None,
            Next::Retry { .. } if self.tries == MAX_TRIES => None,
            Next::Retry { not_before } => {
                let longest = FIRST_PAUSE * 2_u32.pow(self.tries - 1);
                self.tries += 1;
                Some(longest.mul_f64(random).max(not_before))
            }
            Next::Requeue => {
                let longest = (FIRST_REQUEUE * 2_u32.pow(self.requeues.min(10))).min(MAX_REQUEUE);
                self.requeues += 1;
                Some(longest.mul_f64(0.5 + 0.5 * random))
            }
        }
    }
}

/// The time that a `Retry-After` header asks to wait from `now` on (RFC 9110, section 10.2.3): whole seconds, or a date
/// of any of HTTP's three forms; a date in the past means zero. `None` when it is neither. A number beyond 64 bits
/// counts as the largest.
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
