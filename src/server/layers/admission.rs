//! A place among the calls in flight.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::Either;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::Service;

use super::held::{Held, Hold};
use crate::operations::status;

/// When a caller who was refused may come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// Lets a bounded number of calls in, and refuses the rest at once.
#[derive(Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    places: Arc<Semaphore>,
    calls: TaskTracker,
}

impl<S> Admission<S> {
    pub(super) fn new(inner: S, places: Arc<Semaphore>, calls: TaskTracker) -> Self {
        Self { inner, places, calls }
    }
}

impl<S, B> Service<Request<B>> for Admission<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Held>;
    type Error = Infallible;
    type Future = Either<Admitted<S::Future>, Ready<Result<Response<Held>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Either::Right(ready(Ok(status::overloaded(COME_BACK).into_http())));
        };
        let hold = Hold::new(place, self.calls.token());
        Either::Left(Admitted { inner: self.inner.call(request), hold: Some(hold) })
    }
}

pin_project! {
    /// A call in flight until there is an answer, with which its place goes on, or until nothing is left to do
    /// for a caller who hung up.
    pub(crate) struct Admitted<F> {
        #[pin]
        inner: F,
        // None when it has gone with the answer.
        hold: Option<Hold>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Admitted<F> {
    type Output = Result<Response<Held>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(answer) = ready!(this.inner.poll(cx));
        let hold = this.hold.take();
        Poll::Ready(Ok(answer.map(|body| Held::new(body, hold))))
    }
}
