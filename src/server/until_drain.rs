//! Streams that end when the process drains.
//!
//! A client may keep a bidirectional stream, such as reflection's, open forever. A graceful shutdown would wait for
//! it. In a drain, this module ends the request body as if the client had ended it. The service then responds to
//! the received requests and ends the call with OK.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tonic::server::NamedService;
use tower::Service;

use crate::serving::Serving;

/// A service whose request bodies end in a drain.
#[derive(Debug, Clone)]
pub struct UntilDrain<S> {
    inner: S,
    serving: watch::Receiver<Serving>,
}

impl<S> UntilDrain<S> {
    /// Ends the request bodies of `inner` when `serving` is `Draining` or its sender was dropped.
    pub fn new(inner: S, serving: watch::Receiver<Serving>) -> Self {
        Self { inner, serving }
    }
}

impl<S: NamedService> NamedService for UntilDrain<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for UntilDrain<S>
where
    S: Service<Request<EndingBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut serving = self.serving.clone();
        let end = async move {
            // An error means that the sender was dropped, which ends the body too.
            let _ = serving.wait_for(|serving| *serving == Serving::Draining).await;
        };
        self.inner.call(request.map(|body| EndingBody { body, end: Some(end.boxed()) }))
    }
}

pin_project! {
    /// A request body that ends in a drain.
    pub struct EndingBody<B> {
        #[pin]
        body: B,
        // `None` after the drain started.
        end: Option<BoxFuture<'static, ()>>,
    }
}

impl<B: Body> Body for EndingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        // Received frames are first, because the service responds to them in a drain.
        if this.end.is_some()
            && let Poll::Ready(frame) = this.body.poll_frame(context)
        {
            return Poll::Ready(frame);
        }
        if this.end.as_mut().is_some_and(|end| end.poll_unpin(context).is_pending()) {
            return Poll::Pending;
        }
        *this.end = None;
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // A drain may end the body before the lower bound of the inner body.
        SizeHint::default()
    }
}
