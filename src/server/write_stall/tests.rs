use futures_util::poll;
use tokio::time::{advance, timeout};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(10);

/// Whether the limit is exceeded within `time`, as the connection's one waiter sees it.
async fn is_exceeded_in(stalls: &WriteStalls, time: Duration) -> bool {
    timeout(time, stalls.exceeded()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_written_in_the_limit_exceeds_it() {
    let stalls = WriteStalls::new(LIMIT);
    let _wait = stalls.start();
    assert!(!is_exceeded_in(&stalls, LIMIT - MOMENT).await);
    assert!(is_exceeded_in(&stalls, 2 * MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn responses_that_are_written_in_time_do_not_however_many() {
    let stalls = WriteStalls::new(LIMIT);
    let mut before = stalls.start();
    for _ in 0..10 {
        let next = stalls.start();
        assert!(!is_exceeded_in(&stalls, LIMIT - MOMENT).await);
        drop(std::mem::replace(&mut before, stalls.start()));
        drop(next);
    }
    drop(before);
    assert!(!is_exceeded_in(&stalls, 10 * LIMIT).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_written_is_noticed_among_others_that_are() {
    let stalls = WriteStalls::new(LIMIT);
    drop(stalls.start());
    let _left = stalls.start();
    for _ in 0..29 {
        let sent = stalls.start();
        assert!(!is_exceeded_in(&stalls, LIMIT / 30).await);
        drop(sent);
    }
    assert!(is_exceeded_in(&stalls, LIMIT / 30 + MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn a_full_window_gives_the_time_anew_and_a_byte_does_not() {
    let stalls = WriteStalls::new(LIMIT);
    let mut wait = stalls.start();
    for _ in 0..10 {
        advance(LIMIT / 2).await;
        wait.progress(PROGRESS / 2 + 1);
    }
    assert!(!is_exceeded_in(&stalls, LIMIT / 2).await);
    wait.progress(1);
    assert!(is_exceeded_in(&stalls, LIMIT / 2 + MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn of_many_responses_only_the_first_wakes_the_waiter() {
    let stalls = WriteStalls::new(LIMIT);
    let wait = stalls.start();
    assert!(!is_exceeded_in(&stalls, MOMENT).await);
    let _others = [stalls.start(), stalls.start()];
    drop(wait);
    assert!(poll!(std::pin::pin!(stalls.started.notified())).is_ready(), "the first wakes it");
    let _more = [stalls.start(), stalls.start()];
    assert!(
        poll!(std::pin::pin!(stalls.started.notified())).is_pending(),
        "the others find the timer running"
    );
}
