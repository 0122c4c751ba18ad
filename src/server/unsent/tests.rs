use futures_util::poll;
use tokio::time::{advance, timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(10);

/// Whether the connection is to end within `time`, as its one watcher sees it.
async fn is_too_long_in(unsent: &Unsent, time: Duration) -> bool {
    timeout(time, unsent.too_long()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_left_for_the_whole_time_is_too_long_there() {
    let unsent = Unsent::new(PATIENCE);
    let _wait = Wait::begin(&unsent);
    assert!(!is_too_long_in(&unsent, PATIENCE - MOMENT).await);
    assert!(is_too_long_in(&unsent, 2 * MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn any_number_that_are_sent_in_time_are_not_whatever_the_connection_s_age() {
    let unsent = Unsent::new(PATIENCE);
    let mut before = Wait::begin(&unsent);
    for _ in 0..10 {
        let next = Wait::begin(&unsent);
        assert!(!is_too_long_in(&unsent, PATIENCE - MOMENT).await);
        drop(std::mem::replace(&mut before, Wait::begin(&unsent)));
        drop(next);
    }
    drop(before);
    assert!(!is_too_long_in(&unsent, 10 * PATIENCE).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_left_is_seen_among_others_that_are_sent() {
    let unsent = Unsent::new(PATIENCE);
    drop(Wait::begin(&unsent));
    let _left = Wait::begin(&unsent);
    for _ in 0..29 {
        let sent = Wait::begin(&unsent);
        assert!(!is_too_long_in(&unsent, PATIENCE / 30).await);
        drop(sent);
    }
    assert!(is_too_long_in(&unsent, PATIENCE / 30 + MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn a_window_s_worth_gives_the_time_anew_and_a_byte_does_not() {
    let unsent = Unsent::new(PATIENCE);
    let mut wait = Wait::begin(&unsent);
    for _ in 0..10 {
        advance(PATIENCE / 2).await;
        wait.progress(PROGRESS / 2 + 1);
    }
    assert!(!is_too_long_in(&unsent, PATIENCE / 2).await);
    wait.progress(1);
    assert!(is_too_long_in(&unsent, PATIENCE / 2 + MOMENT).await);
}

#[tokio::test(start_paused = true)]
async fn of_many_answers_the_first_alone_wakes_the_watcher() {
    let unsent = Unsent::new(PATIENCE);
    let wait = Wait::begin(&unsent);
    assert!(!is_too_long_in(&unsent, MOMENT).await);
    let _others = [Wait::begin(&unsent), Wait::begin(&unsent)];
    drop(wait);
    assert!(poll!(std::pin::pin!(unsent.begun.notified())).is_ready(), "the first is told");
    let _more = [Wait::begin(&unsent), Wait::begin(&unsent)];
    assert!(poll!(std::pin::pin!(unsent.begun.notified())).is_pending(), "the others find the timer running");
}
