//! A defect costs its own call only.

use std::{
    any::Any,
    convert::Infallible,
    future::{Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{CatchUnwind, Either, Map},
};
use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::operations::status;

/// Answers INTERNAL for a call whose handler panics. What happened is in the log: the panic hook's line.
#[derive(Clone)]
pub(crate) struct Panics<S>(S);

impl<S> Panics<S> {
    pub(super) fn new(inner: S) -> Self {
        Self(inner)
    }
}

type Caught = Result<Result<Response<Body>, Infallible>, Box<dyn Any + Send>>;

impl<S, B> Service<Request<B>> for Panics<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> Result<Response<Body>, Infallible>>,
        Ready<Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Nothing of the call is looked at after a panic, so nothing half-done can be seen.
        match catch_unwind(AssertUnwindSafe(|| self.0.call(request))) {
            Ok(call) => Either::Left(AssertUnwindSafe(call).catch_unwind().map(answer)),
            // In the connection's own task, where it would cost all its calls.
            Err(_) => Either::Right(ready(Ok(status::internal().into_http()))),
        }
    }
}

fn answer(caught: Caught) -> Result<Response<Body>, Infallible> {
    caught.unwrap_or_else(|_| Ok(status::internal().into_http()))
}
