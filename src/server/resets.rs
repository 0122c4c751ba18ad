//! Calls that are reset soon after they began: how many of them one connection may make in a window.
//!
//! To begin a call and reset it at once costs the caller next to nothing and costs us the work (CVE-2023-44487). A
//! client that makes us reset its calls by protocol errors does the same (CVE-2025-8671). h2 bounds only the calls that
//! it has not handed on yet. A caller that gives up after a while is not counted, however many callers a proxy brings:
//! a call that lived longer than [`MIN_LIFETIME`] does not count, as in Envoy
//! (`overload.premature_reset_min_stream_lifetime_seconds`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// A call that is reset before this has passed counts.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// The resets of one connection.
pub(super) struct Resets {
    max: usize,
    window: Duration,
    /// The start of the window, and the resets in it.
    counted: Mutex<(Instant, usize)>,
    exceeded: Notify,
}

impl Resets {
    /// Allows `max` resets in one `window`.
    pub(super) fn new(max: usize, window: Duration) -> Arc<Self> {
        Arc::new(Self { max, window, counted: Mutex::new((Instant::now(), 0)), exceeded: Notify::new() })
    }

    /// Waits until there are too many.
    pub(super) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// A call that `began` then was reset now.
    pub(super) fn count(&self, began: Instant) {
        if began.elapsed() >= MIN_LIFETIME {
            return;
        }
        let now = Instant::now();
        // Both numbers are right whenever the lock is free.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(counted.0) >= self.window {
            *counted = (now, 0);
        }
        counted.1 += 1;
        if counted.1 > self.max {
            self.exceeded.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures_util::poll;
    use tokio::time::Instant;

    use super::{MIN_LIFETIME, Resets};
    use crate::server::{
        call::{InFlight, OnConnection},
        response_body::ResponseBody,
        write_stall::WriteStalls,
    };

    const WINDOW: Duration = Duration::from_secs(30);

    fn call(
        resets: &Arc<Resets>,
        call: impl Future<Output = http::Response<ResponseBody>> + Send + 'static,
    ) -> OnConnection {
        OnConnection::new(InFlight::unrecorded(call), resets, &WriteStalls::new(WINDOW))
    }

    /// A call without a response.
    fn begin(resets: &Arc<Resets>) -> OnConnection {
        call(resets, std::future::pending())
    }

    async fn is_exceeded(resets: &Resets) -> bool {
        poll!(std::pin::pin!(resets.exceeded())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_limit_in_a_window_are_too_many() {
        let resets = Resets::new(3, WINDOW);
        for _ in 0..3 {
            drop(begin(&resets));
        }
        assert!(!is_exceeded(&resets).await);
        drop(begin(&resets));
        assert!(is_exceeded(&resets).await);
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
        assert!(!is_exceeded(&resets).await);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_give_up_after_a_while_do_not_count() {
        let resets = Resets::new(3, WINDOW);
        let calls: Vec<_> = (0..100).map(|_| begin(&resets)).collect();
        tokio::time::advance(MIN_LIFETIME).await;
        drop(calls);
        assert!(!is_exceeded(&resets).await);
        assert!(Instant::now().elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_a_response_does_not_count() {
        let resets = Resets::new(3, WINDOW);
        for _ in 0..100 {
            let response = async { http::Response::new(ResponseBody::default()) };
            call(&resets, response).await.expect("a response");
        }
        assert!(!is_exceeded(&resets).await);
    }
}
