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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready};

    use http::{Request, Response};
    use tonic::{Code, Status, body::Body};
    use tower::{Service, service_fn};

    use super::Panics;

    type Answer = Result<Response<Body>, Infallible>;

    #[tokio::test]
    async fn a_panic_is_answered_whether_it_comes_at_once_or_later() {
        let at_once = service_fn(|_: Request<()>| -> std::future::Ready<Answer> { panic!("at once") });
        let later = service_fn(|_: Request<()>| async { if true { panic!("later") } else { answer() } });
        let fine = service_fn(|_: Request<()>| ready(answer()));
        for (answer, code) in [
            (Panics::new(at_once).call(Request::new(())).await, Code::Internal),
            (Panics::new(later).call(Request::new(())).await, Code::Internal),
            (Panics::new(fine).call(Request::new(())).await, Code::Ok),
        ] {
            let Ok(answer) = answer;
            let found = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
            assert_eq!(found, code);
        }
    }

    fn answer() -> Answer {
        Ok(Response::new(Body::empty()))
    }
}
