//! Errors that tonic makes by itself, in the form of our own.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::Map};
use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::operations::status;

/// Gives an answer that is nothing but an error without details the details that every error has.
#[derive(Clone)]
pub(crate) struct Explanation<S>(S);

impl<S> Explanation<S> {
    pub(super) fn new(inner: S) -> Self {
        Self(inner)
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<S, B> Service<Request<B>> for Explanation<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<S::Future, fn(Answer) -> Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request).map(|answer| answer.map(explained))
    }
}

/// Marks the answer to what the library refused: no message of it was read.
#[derive(Clone, Copy)]
pub(super) struct RefusedByTheLibrary;

fn explained(answer: Response<Body>) -> Response<Body> {
    // Only an answer without a message has its status here; others have it in trailers still to come.
    match Status::from_header_map(answer.headers()) {
        Some(refused) if refused.code() != Code::Ok && refused.details().is_empty() => {
            let mut explained = status::from_tonic(&refused).into_http();
            explained.extensions_mut().insert(RefusedByTheLibrary);
            explained
        }
        _ => answer,
    }
}
