//! Calls that are reset soon after they began: how many of them one connection may make in a window.
//!
//! To begin a call and reset it at once costs the caller next to nothing and us the work (CVE-2023-44487),
//! and a client that makes us reset its calls by breaking the protocol comes to the same (CVE-2025-8671).
//! h2 bounds only those that it has not handed on yet. Callers who lose patience after a while are no such
//! thing, however many a proxy brings: what lived longer than [`SOON`] is not counted, as in Envoy
//! (`overload.premature_reset_min_stream_lifetime_seconds`).

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::service::Service;
use pin_project_lite::pin_project;
use tokio::{sync::Notify, time::Instant};

/// A call that ends by a reset before this is over counts.
const SOON: Duration = Duration::from_secs(1);

/// The resets of one connection.
pub(super) struct Resets {
    most: usize,
    window: Duration,
    /// Since when the window runs, and what was counted in it.
    counted: Mutex<(Instant, usize)>,
    too_many: Notify,
}

impl Resets {
    /// Bears `most` in one `window`.
    pub(super) fn new(most: usize, window: Duration) -> Arc<Self> {
        Arc::new(Self { most, window, counted: Mutex::new((Instant::now(), 0)), too_many: Notify::new() })
    }

    /// Waits until there are too many.
    pub(super) async fn too_many(&self) {
        self.too_many.notified().await;
    }

    fn count(&self) {
        let now = Instant::now();
        // Two numbers, each right whenever the lock is free.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(counted.0) >= self.window {
            *counted = (now, 0);
        }
        counted.1 += 1;
        if counted.1 > self.most {
            self.too_many.notify_one();
        }
    }
}

/// A service whose calls are counted when they are dropped before their answer begins.
pub(super) struct Counted<S> {
    inner: S,
    resets: Arc<Resets>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, resets: Arc<Resets>) -> Self {
        Self { inner, resets }
    }
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn call(&self, request: R) -> Self::Future {
        let unanswered = Unanswered { since: Instant::now(), resets: Some(Arc::clone(&self.resets)) };
        Call { inner: self.inner.call(request), unanswered }
    }
}

pin_project! {
    /// A call until its answer begins.
    pub(super) struct Call<F> {
        #[pin]
        inner: F,
        unanswered: Unanswered,
    }
}

struct Unanswered {
    since: Instant,
    /// `None` once there is an answer.
    resets: Option<Arc<Resets>>,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(resets) = &self.resets
            && self.since.elapsed() < SOON
        {
            resets.count();
        }
    }
}

impl<F: Future> Future for Call<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let call = self.project();
        let answer = call.inner.poll(cx);
        if answer.is_ready() {
            call.unanswered.resets = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests;
