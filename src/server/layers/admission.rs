//! A place among the calls in flight.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::body::Body;
use tower::Service;

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
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Admitted<S::Future>, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Either::Right(ready(Ok(status::overloaded(COME_BACK).into_http())));
        };
        let call = self.calls.token();
        Either::Left(Admitted { inner: self.inner.call(request), _place: place, _call: call })
    }
}

pin_project! {
    /// A call in flight, until it is answered or its caller hangs up.
    pub(crate) struct Admitted<F> {
        #[pin]
        inner: F,
        _place: OwnedSemaphorePermit,
        _call: TaskTrackerToken,
    }
}

impl<F: Future> Future for Admitted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}
