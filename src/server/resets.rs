//! Limits the calls of a connection that are reset soon after their start.
//!
//! A client can start and reset calls at little cost, and the server has the cost of each call (CVE-2023-44487). A
//! client can also cause the server to reset calls, by protocol errors (CVE-2025-8671). h2 limits only the calls
//! that hyper has not accepted yet. A call that lived longer than [`MIN_LIFETIME`] is not counted, because the
//! callers behind one proxy may reach their deadlines at the same time. Envoy has the same rule
//! (`overload.premature_reset_min_stream_lifetime_seconds`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// The minimum lifetime of a call whose reset is not counted.
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

    /// Waits until the limit is exceeded.
    pub(super) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// Counts the reset of a call that started at `started_at`.
    pub(super) fn count(&self, started_at: Instant) {
        if started_at.elapsed() >= MIN_LIFETIME {
            return;
        }
        let now = Instant::now();
        // A panic cannot leave the two values inconsistent.
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
        call::{ConnectionCall, InFlight},
        response_body::ResponseBody,
        write_stall::WriteStalls,
    };

    const WINDOW: Duration = Duration::from_secs(30);

    fn call(
        resets: &Arc<Resets>,
        call: impl Future<Output = http::Response<ResponseBody>> + Send + 'static,
    ) -> ConnectionCall {
        ConnectionCall::new(InFlight::unrecorded(call), resets, &WriteStalls::new(WINDOW))
    }

    /// A call without a response.
    fn start_call(resets: &Arc<Resets>) -> ConnectionCall {
        call(resets, std::future::pending())
    }

    async fn is_exceeded(resets: &Resets) -> bool {
        poll!(std::pin::pin!(resets.exceeded())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn more_resets_than_the_limit_in_a_window_exceed_it() {
        let resets = Resets::new(3, WINDOW);
        for _ in 0..3 {
            drop(start_call(&resets));
        }
        assert!(!is_exceeded(&resets).await);
        drop(start_call(&resets));
        assert!(is_exceeded(&resets).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_window_starts_at_zero() {
        let resets = Resets::new(3, WINDOW);
        for _ in 0..10 {
            for _ in 0..3 {
                drop(start_call(&resets));
            }
            tokio::time::advance(WINDOW).await;
        }
        assert!(!is_exceeded(&resets).await);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_after_the_minimum_lifetime_are_not_counted() {
        let resets = Resets::new(3, WINDOW);
        let calls: Vec<_> = (0..100).map(|_| start_call(&resets)).collect();
        tokio::time::advance(MIN_LIFETIME).await;
        drop(calls);
        assert!(!is_exceeded(&resets).await);
        assert!(Instant::now().elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_a_response_is_not_counted() {
        let resets = Resets::new(3, WINDOW);
        for _ in 0..100 {
            let response = async { http::Response::new(ResponseBody::default()) };
            call(&resets, response).await.expect("a response");
        }
        assert!(!is_exceeded(&resets).await);
    }
}
