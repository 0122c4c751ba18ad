//! Retries: the one place where a request is sent again.
//!
//! What failed in passing (no connection, a reset before an answer, 502, 503, 504) is tried again after a
//! pause of full jitter, at most [`MAX_TRIES`] times and while the call's budget lasts. Over all calls
//! retries stay below a fifth of the requests, with a floor, so that an upstream in trouble is not buried
//! under them. A request that the upstream says it did not look at is no try at all: it queues again.

use std::{future::Future, time::Duration};

use tower::retry::budget::{Budget as _, TpsBudget};

use super::{Outcome, error::Error};
use crate::budget::Budget;

/// How often one request is sent at most, the first time included.
const MAX_TRIES: u32 = 4;

/// The longest first pause; it doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pause of a request that queues again: long enough for a connection to settle, and growing up to
/// the second, since an upstream that refuses all is only asked in vain.
const FIRST_REQUEUE: Duration = Duration::from_millis(5);
const LAST_REQUEUE: Duration = Duration::from_secs(1);

/// The retry budget: a fifth of the requests of ten seconds, and ten retries a second in any case, so
/// that a first call may retry too.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_SHARE: f32 = 0.2;
const BUDGET_FLOOR: u32 = 10;

/// What one attempt came to.
pub(super) struct Attempted<T> {
    pub(super) result: Result<T, Failed>,
    /// How many requests were sent for it: two when the token was renewed in between.
    pub(super) sent: u32,
    /// The status of the last answer.
    pub(super) status: Option<u16>,
}

/// An attempt that failed, and what may come next.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) next: Next,
}

/// What may follow a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: another would fare no better.
    Stop,
    /// Another try, not before the time that the upstream asked for.
    Retry { not_before: Duration },
    /// The same try again: the upstream did not look at it.
    Requeue,
}

/// The retry budget of one upstream, shared by all its calls.
pub(super) struct Retries(TpsBudget);

impl Retries {
    pub(super) fn new() -> Self {
        Self(TpsBudget::new(BUDGET_WINDOW, BUDGET_FLOOR, BUDGET_SHARE))
    }

    /// Runs attempts until one succeeds or none may follow.
    pub(super) async fn run<T, F>(&self, budget: &Budget, mut attempt: impl FnMut() -> F) -> Outcome<T>
    where
        F: Future<Output = Attempted<T>>,
    {
        self.0.deposit();
        let mut course = Course { tries: 1, requeues: 0 };
        let mut outcome =
            Outcome { result: Err(Error::Lost), attempts: 0, upstream_status: None, credential: None };
        loop {
            let tried = attempt().await;
            outcome.attempts += tried.sent;
            outcome.upstream_status = tried.status.or(outcome.upstream_status);
            let failed = match tried.result {
                Ok(value) => {
                    outcome.result = Ok(value);
                    return outcome;
                }
                Err(failed) => failed,
            };
            let pause = course.pause(failed.next, fastrand::f64());
            outcome.result = Err(failed.error);
            // A pause that outlasts the budget would only hide the cause behind a deadline.
            let Some(pause) = pause.filter(|pause| *pause < budget.left()) else { return outcome };
            if matches!(failed.next, Next::Retry { .. }) && !self.0.withdraw() {
                return outcome;
            }
            if budget.begin(tokio::time::sleep(pause)).await.is_err() {
                return outcome;
            }
        }
    }
}

/// How far one call has come.
struct Course {
    tries: u32,
    requeues: u32,
}

impl Course {
    /// The pause before the next attempt; none when there is to be none. `random` is in 0..1.
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
                let longest = (FIRST_REQUEUE * 2_u32.pow(self.requeues.min(10))).min(LAST_REQUEUE);
                self.requeues += 1;
                Some(longest.mul_f64(0.5 + 0.5 * random))
            }
        }
    }
}

#[cfg(test)]
mod tests;
