use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{FailedAttempt, Next, RetryBudget, RetryUse, Tries, retry_after};
use crate::{amapi::error::Error, flight::Flight, telemetry::metrics::Metrics};

const SECOND: Duration = Duration::from_secs(1);
const RETRY: Next = Next::Retry { not_before: Duration::ZERO };

struct Outcome {
    result: Result<(), Error>,
    attempts: u32,
}

/// Runs attempts that fail as scripted, and then succeed.
async fn run(budget: &RetryBudget, timeout: Duration, script: impl IntoIterator<Item = Next>) -> Outcome {
    let mut script: VecDeque<Next> = script.into_iter().collect();
    let flight = Flight::new(Instant::now() + timeout);
    let attempt = || {
        flight.sent();
        let failed =
            |next| FailedAttempt { error: Error::Unreachable { cause: "scripted".to_owned() }, next };
        std::future::ready(script.pop_front().map_or(Ok(()), |next| Err(failed(next))))
    };
    let (metrics, _) = Metrics::new();
    let result = Tries::new(budget, &flight, RetryUse::Cancel, &metrics.upstream).run(attempt).await;
    Outcome { result, attempts: flight.attempts() }
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_is_retried_up_to_the_fourth_try() {
    let start = Instant::now();
    let outcome = run(&RetryBudget::new(), 30 * SECOND, [RETRY; 3]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.attempts, 4);
    assert!(start.elapsed() <= Duration::from_millis(100 + 200 + 400), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_has_at_most_four_tries() {
    let outcome = run(&RetryBudget::new(), 30 * SECOND, [RETRY; 10]).await;
    assert!(matches!(outcome.result, Err(Error::Unreachable { .. })));
    assert_eq!(outcome.attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_not_retried() {
    let outcome = run(&RetryBudget::new(), 30 * SECOND, [Next::Stop]).await;
    assert_eq!(outcome.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_retry_after_of_the_upstream() {
    let start = Instant::now();
    let outcome = run(&RetryBudget::new(), 30 * SECOND, [Next::Retry { not_before: 7 * SECOND }]).await;
    assert!(outcome.result.is_ok());
    assert!(start.elapsed() >= 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_deadline_does_not_start() {
    let start = Instant::now();
    let outcome = run(&RetryBudget::new(), 5 * SECOND, [Next::Retry { not_before: 7 * SECOND }]).await;
    assert!(matches!(outcome.result, Err(Error::Unreachable { .. })), "the cause, not the deadline");
    assert_eq!(outcome.attempts, 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_processed_is_requeued_without_a_limit() {
    let outcome = run(&RetryBudget::new(), 30 * SECOND, [Next::Requeue; 20]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.attempts, 21);
}

#[tokio::test(start_paused = true)]
async fn requeueing_ends_at_the_deadline() {
    let start = Instant::now();
    let outcome = run(&RetryBudget::new(), 5 * SECOND, std::iter::repeat_n(Next::Requeue, 10_000)).await;
    assert!(outcome.result.is_err());
    assert!(start.elapsed() <= 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn failing_calls_share_the_retry_budget() {
    let budget = RetryBudget::new();
    let calls = (0..1000).map(|_| run(&budget, 30 * SECOND, [RETRY; 4]));
    let attempts: u32 = futures_util::future::join_all(calls).await.iter().map(|call| call.attempts).sum();
    // A fifth of the calls, and the floor of ten per second for the window of ten seconds.
    assert!((1200..=1320).contains(&attempts), "{attempts} attempts for 1000 calls");
}

/// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}

#[test]
fn retry_after_parses_seconds_and_dates() {
    for (header, seconds) in [
        ("0", 0),
        ("120", 120),
        (" 7\t", 7),
        ("99999999999999999999999", u64::MAX),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
        ("Sun Nov  6 08:50:07 1994", 30),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
    ] {
        let want = Some(Duration::from_secs(seconds));
        assert_eq!(retry_after(header, now()), want, "{header}");
    }
}

#[test]
fn retry_after_of_anything_else_is_none() {
    for header in ["", " ", "-1", "+1", "1.5", "5s", "soon", "1, 2", "Sun, 32 Nov 1994 08:50:07 GMT"] {
        assert_eq!(retry_after(header, now()), None, "{header}");
    }
}
