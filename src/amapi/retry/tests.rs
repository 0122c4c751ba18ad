use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Attempted, Failed, Next, Retries};
use crate::{
    amapi::{Outcome, error::Error},
    budget::Budget,
};

const SECOND: Duration = Duration::from_secs(1);
const RETRY: Next = Next::Retry { not_before: Duration::ZERO };

/// Runs attempts that end as scripted, and then succeed.
async fn run(retries: &Retries, allowed: Duration, script: impl IntoIterator<Item = Next>) -> Outcome<()> {
    let mut script: VecDeque<Next> = script.into_iter().collect();
    let budget = Budget::new(Instant::now() + allowed, 60 * SECOND);
    let attempt = || {
        let result = script.pop_front().map_or(Ok(()), |next| {
            Err(Failed { error: Error::Unreachable { cause: "scripted".to_owned() }, next })
        });
        std::future::ready(Attempted { result, sent: 1, status: None })
    };
    retries.run(&budget, attempt).await
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_overcome_by_the_fourth_try() {
    let start = Instant::now();
    let outcome = run(&Retries::new(), 30 * SECOND, [RETRY; 3]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.attempts, 4);
    assert!(start.elapsed() <= Duration::from_millis(100 + 200 + 400), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn four_tries_are_the_most() {
    let outcome = run(&Retries::new(), 30 * SECOND, [RETRY; 10]).await;
    assert!(matches!(outcome.result, Err(Error::Unreachable { .. })));
    assert_eq!(outcome.attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_tried_once() {
    let outcome = run(&Retries::new(), 30 * SECOND, [Next::Stop]).await;
    assert_eq!(outcome.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn the_upstream_says_when_to_come_back() {
    let start = Instant::now();
    let outcome = run(&Retries::new(), 30 * SECOND, [Next::Retry { not_before: 7 * SECOND }]).await;
    assert!(outcome.result.is_ok());
    assert!(start.elapsed() >= 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_outlasts_the_deadline_is_not_begun() {
    let start = Instant::now();
    let outcome = run(&Retries::new(), 5 * SECOND, [Next::Retry { not_before: 7 * SECOND }]).await;
    assert!(matches!(outcome.result, Err(Error::Unreachable { .. })), "the cause, not a deadline");
    assert_eq!(outcome.attempts, 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_looked_at_queues_again_as_often_as_it_takes() {
    let outcome = run(&Retries::new(), 30 * SECOND, [Next::Requeue; 20]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.attempts, 21);
}

#[tokio::test(start_paused = true)]
async fn requeueing_ends_with_the_deadline() {
    let start = Instant::now();
    let outcome = run(&Retries::new(), 5 * SECOND, std::iter::repeat_n(Next::Requeue, 10_000)).await;
    assert!(outcome.result.is_err());
    assert!(start.elapsed() <= 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn many_failing_calls_share_a_budget_of_retries() {
    let retries = Retries::new();
    let calls = (0..1000).map(|_| run(&retries, 30 * SECOND, [RETRY; 4]));
    let attempts: u32 = futures_util::future::join_all(calls).await.iter().map(|call| call.attempts).sum();
    // A fifth of the calls, and the floor of ten a second for the ten seconds that are looked at.
    assert!((1200..=1320).contains(&attempts), "{attempts} attempts for 1000 calls");
}
