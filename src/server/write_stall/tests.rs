use futures_util::poll;
use tokio::time::{advance, timeout};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(10);

/// Whether the limit is exceeded within `time`.
async fn is_exceeded_in(stalls: &WriteStalls, time: Duration) -> bool {
    timeout(time, stalls.exceeded()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_written_within_the_limit_exceeds_it() {
    let stalls = WriteStalls::new(LIMIT);
    let _response = stalls.start();
    assert!(!is_exceeded_in(&stalls, LIMIT - MOMENT).await);
    assert!(is_exceeded_in(&stalls, 2 * MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn many_responses_that_are_written_in_time_do_not_exceed_the_limit() {
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
async fn a_response_that_is_not_written_exceeds_the_limit_among_others() {
    let stalls = WriteStalls::new(LIMIT);
    drop(stalls.start());
    let _unread = stalls.start();
    for _ in 0..29 {
        let sent = stalls.start();
        assert!(!is_exceeded_in(&stalls, LIMIT / 30).await);
        drop(sent);
    }
    assert!(is_exceeded_in(&stalls, LIMIT / 30 + MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn reading_a_full_window_restarts_the_timer_and_a_byte_does_not() {
    let stalls = WriteStalls::new(LIMIT);
    let mut response = stalls.start();
    for _ in 0..10 {
        advance(LIMIT / 2).await;
        response.progress(MIN_PROGRESS / 2 + 1);
    }
    assert!(!is_exceeded_in(&stalls, LIMIT / 2).await);
    response.progress(1);
    assert!(is_exceeded_in(&stalls, LIMIT / 2 + MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn only_the_first_response_wakes_the_waiter() {
    let stalls = WriteStalls::new(LIMIT);
    let response = stalls.start();
    assert!(!is_exceeded_in(&stalls, MOMENT).await);
    let _others = [stalls.start(), stalls.start()];
    drop(response);
    assert!(
        poll!(std::pin::pin!(stalls.started.notified())).is_ready(),
        "the first response wakes the waiter"
    );
    let _more = [stalls.start(), stalls.start()];
    assert!(poll!(std::pin::pin!(stalls.started.notified())).is_pending(), "the timer is running");
}
