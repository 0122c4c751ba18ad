use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use futures_util::{
    future::{Either, Pending, pending},
    poll,
};

use super::*;

const WINDOW: Duration = Duration::from_secs(30);

/// Answers every call at once, or none.
struct Answers(bool);

impl Service<()> for Answers {
    type Response = ();
    type Error = Infallible;
    type Future = Either<Ready<Result<(), Infallible>>, Pending<Result<(), Infallible>>>;

    fn call(&self, (): ()) -> Self::Future {
        if self.0 { Either::Left(ready(Ok(()))) } else { Either::Right(pending()) }
    }
}

/// A call that is never answered.
fn begin(resets: &Arc<Resets>) -> impl Future<Output = Result<(), Infallible>> {
    Counted::new(Answers(false), Arc::clone(resets)).call(())
}

async fn is_too_many(resets: &Resets) -> bool {
    poll!(std::pin::pin!(resets.too_many())).is_ready()
}

#[tokio::test(start_paused = true)]
async fn more_than_the_limit_in_a_window_are_too_many() {
    let resets = Resets::new(3, WINDOW);
    for _ in 0..3 {
        drop(begin(&resets));
    }
    assert!(!is_too_many(&resets).await);
    drop(begin(&resets));
    assert!(is_too_many(&resets).await);
}

#[tokio::test(start_paused = true)]
async fn the_next_window_begins_anew() {
    let resets = Resets::new(3, WINDOW);
    for _ in 0..10 {
        for _ in 0..3 {
            drop(begin(&resets));
        }
        tokio::time::advance(WINDOW).await;
    }
    assert!(!is_too_many(&resets).await);
}

#[tokio::test(start_paused = true)]
async fn callers_who_lose_patience_after_a_while_do_not_count() {
    let resets = Resets::new(3, WINDOW);
    let calls: Vec<_> = (0..100).map(|_| begin(&resets)).collect();
    tokio::time::advance(SOON).await;
    drop(calls);
    assert!(!is_too_many(&resets).await);
}

#[tokio::test(start_paused = true)]
async fn an_answered_call_does_not_count() {
    let resets = Resets::new(3, WINDOW);
    let at_once = Counted::new(Answers(true), Arc::clone(&resets));
    for _ in 0..100 {
        at_once.call(()).await.unwrap();
    }
    assert!(!is_too_many(&resets).await);
}
