//! The time at which the start of the service no longer waits for a credential.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{MINUTE, SECOND, Script, Step, bearer};
use crate::credentials::Readiness;

/// When a credential whose fetches go so is no longer waited for at start.
async fn given_up_after(steps: impl IntoIterator<Item = Step>) -> (usize, Duration) {
    let start = Instant::now();
    let script = Script::of(steps);
    let credential = script.start();
    assert_eq!(credential.status().readiness(), Readiness::Starting);
    let settled = credential.readiness_after(Readiness::Starting).await;
    assert_eq!(settled, Readiness::NotReady);
    let (fetches, time) = (script.fetches(), start.elapsed());
    // It is asked for all the same, and is not waited for a second time.
    assert_eq!(credential.readiness_after(Readiness::NotReady).await, Readiness::Ready);
    assert!(script.fetches() > fetches);
    (fetches, time)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_gives_it_up_at_once() {
    assert_eq!(given_up_after([Step::Refuse]).await.0, 1);
    assert_eq!(given_up_after([Step::Fail, Step::Refuse, Step::Fail]).await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn failures_that_may_pass_give_it_up_when_there_were_three() {
    assert_eq!(given_up_after([Step::Fail, Step::Fail, Step::Fail, Step::Fail]).await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_gives_it_up_after_ten_seconds() {
    assert_eq!(given_up_after([Step::Hang]).await, (1, 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_under_way_then_makes_no_difference() {
    for silence in [8 * SECOND, 9 * SECOND] {
        let (fetches, time) = given_up_after([Step::FailAfter(silence), Step::FailAfter(9 * SECOND)]).await;
        assert_eq!((fetches, time), (2, 10 * SECOND), "{silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_after_it_is_given_up_waits_for_the_attempt_under_way() {
    let script = Script::of([Step::FailAfter(8 * SECOND), Step::FailAfter(4 * SECOND)]);
    let credential = script.start();
    assert_eq!(credential.readiness_after(Readiness::Starting).await, Readiness::NotReady);
    let told = credential.status().to_string();
    assert!(told.starts_with("no valid token: scripted silence (for 1s"), "{told}");
    let start = Instant::now();
    bearer(&credential).await.expect_err("the second failed too");
    assert!(start.elapsed() > 2 * SECOND, "it was waited for");
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_refusal_has_its_cause_and_the_need_of_repair() {
    let script = Script::of(std::iter::repeat_with(|| Step::Refuse).take(200));
    let credential = script.start();
    credential.readiness_after(Readiness::Starting).await;
    sleep(MINUTE).await;
    let told = credential.status().to_string();
    assert_eq!(told, "no valid token: scripted refusal (for 1m; to be mended)");
}
