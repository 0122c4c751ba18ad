//! Answers on their way: how long one connection may leave them there.
//!
//! An answer keeps its call's place until it has been sent, and HTTP/2 sends what the caller's windows let pass. A
//! caller who opens none, and goes on answering pings, would keep any number of places, out of everybody's reach;
//! neither hyper nor h2 has a bound for it. Nor can one of its streams be ended from here, so the connection is.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use hyper::service::Service;
use pin_project_lite::pin_project;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::layers::Held;

/// What a caller must take of an answer to be given the time anew, if that is not all of it: the window with which
/// HTTP/2 begins (RFC 9113, section 6.9.2). Were it any byte, one every now and then would keep a place for hours.
const PROGRESS: usize = 65_535;

/// The answers of one connection that have not been sent yet.
pub(super) struct Unsent {
    patience: Duration,
    waits: Mutex<Waits>,
    begun: Notify,
}

#[derive(Default)]
struct Waits {
    /// Since when each waits. Numbers rise with time: the first is the oldest.
    since: BTreeMap<u64, Instant>,
    next: u64,
    /// Whether somebody looks by itself when the oldest has waited for long enough.
    watched: bool,
}

impl Unsent {
    /// Gives every answer `patience`.
    pub(super) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, waits: Mutex::default(), begun: Notify::new() })
    }

    /// Waits until one has been left for too long. For one waiter at a time.
    pub(super) async fn too_long(&self) {
        loop {
            match self.watch() {
                // Set once in a `patience`, however many answers come and go meanwhile.
                Some(since) if since.elapsed() < self.patience => sleep_until(since + self.patience).await,
                Some(_) => return,
                None => self.begun.notified().await,
            }
        }
    }

    /// Since when the oldest waits.
    fn watch(&self) -> Option<Instant> {
        let mut waits = self.waits();
        let oldest = waits.since.first_key_value().map(|(_, since)| *since);
        waits.watched = oldest.is_some();
        oldest
    }

    fn begin(&self) -> u64 {
        let mut waits = self.waits();
        let number = waits.next;
        waits.next += 1;
        waits.since.insert(number, Instant::now());
        let watched = std::mem::replace(&mut waits.watched, true);
        drop(waits);
        if !watched {
            self.begun.notify_one();
        }
        number
    }

    fn end(&self, number: u64) {
        self.waits().since.remove(&number);
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        // Whatever is in it is right whenever the lock is free.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer's wait to be sent, which ends when this is dropped.
pub(super) struct Wait {
    number: u64,
    taken: usize,
    unsent: Arc<Unsent>,
}

impl Wait {
    fn begin(unsent: &Arc<Unsent>) -> Self {
        Self { number: unsent.begin(), taken: 0, unsent: Arc::clone(unsent) }
    }

    /// The caller has taken `count` bytes, and there are more.
    pub(super) fn progress(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= PROGRESS {
            self.taken = 0;
            self.unsent.end(self.number);
            self.number = self.unsent.begin();
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.unsent.end(self.number);
    }
}

/// A service whose answers begin to wait when they are handed to HTTP/2: what came before, such as the wait for
/// the line in the audit log, was not the caller's doing.
pub(super) struct Waiting<S> {
    inner: S,
    unsent: Arc<Unsent>,
}

impl<S> Waiting<S> {
    pub(super) fn new(inner: S, unsent: Arc<Unsent>) -> Self {
        Self { inner, unsent }
    }
}

impl<S: Service<R, Response = Response<Held>>, R> Service<R> for Waiting<S> {
    type Response = Response<Held>;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn call(&self, request: R) -> Self::Future {
        Call { inner: self.inner.call(request), unsent: Arc::clone(&self.unsent) }
    }
}

pin_project! {
    /// A call until its answer is handed on.
    pub(super) struct Call<F> {
        #[pin]
        inner: F,
        unsent: Arc<Unsent>,
    }
}

impl<F: Future<Output = Result<Response<Held>, E>>, E> Future for Call<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let call = self.project();
        let mut answer = ready!(call.inner.poll(cx))?;
        answer.body_mut().waits(|| Wait::begin(call.unsent));
        Poll::Ready(Ok(answer))
    }
}

#[cfg(test)]
mod tests;
