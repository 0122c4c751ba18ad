//! The time at which the start of the service no longer waits for a credential.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{MINUTE, SECOND, ScriptedSource, Step, bearer};
use crate::credentials::Readiness;

/// The number of fetches and the time after which the start of the service no longer waits for a credential.
async fn wait_of(steps: impl IntoIterator<Item = Step>) -> (usize, Duration) {
    let start = Instant::now();
    let script = ScriptedSource::of(steps);
    let credential = script.start();
    assert_eq!(credential.status().readiness(), Readiness::Starting);
    let settled = credential.readiness_after(Readiness::Starting).await;
    assert_eq!(settled, Readiness::NotReady);
    let (fetches, time) = (script.fetches(), start.elapsed());
    // The fetch is still retried, and the credential does not return to `Starting`.
    assert_eq!(credential.readiness_after(Readiness::NotReady).await, Readiness::Ready);
    assert!(script.fetches() > fetches);
    (fetches, time)
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_ends_the_wait_at_once() {
    assert_eq!(wait_of([Step::Refuse]).await.0, 1);
    assert_eq!(wait_of([Step::Fail, Step::Refuse, Step::Fail]).await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn three_transient_failures_end_the_wait() {
    assert_eq!(wait_of([Step::Fail, Step::Fail, Step::Fail, Step::Fail]).await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_ends_the_wait_after_ten_seconds() {
    assert_eq!(wait_of([Step::Hang]).await, (1, 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_in_progress_does_not_extend_the_wait() {
    for delay in [8 * SECOND, 9 * SECOND] {
        let (fetches, time) = wait_of([Step::FailAfter(delay), Step::FailAfter(9 * SECOND)]).await;
        assert_eq!((fetches, time), (2, 10 * SECOND), "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_after_the_wait_waits_for_the_attempt_in_progress() {
    let script = ScriptedSource::of([Step::FailAfter(8 * SECOND), Step::FailAfter(4 * SECOND)]);
    let credential = script.start();
    assert_eq!(credential.readiness_after(Readiness::Starting).await, Readiness::NotReady);
    let status = credential.status().to_string();
    assert!(status.starts_with("no valid token: scripted silence (for 1s"), "{status}");
    let start = Instant::now();
    bearer(&credential).await.expect_err("the second failed too");
    assert!(start.elapsed() > 2 * SECOND, "the call waited for the attempt");
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_permanent_error_has_its_cause_and_the_need_of_repair() {
    let script = ScriptedSource::of(std::iter::repeat_with(|| Step::Refuse).take(200));
    let credential = script.start();
    credential.readiness_after(Readiness::Starting).await;
    sleep(MINUTE).await;
    let status = credential.status().to_string();
    assert_eq!(status, "no valid token: scripted refusal (for 1m; to be mended)");
}
