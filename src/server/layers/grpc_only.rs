//! Requests that are not gRPC's.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tower::Service;

use crate::operations::status;

/// Refuses what is no POST with 405, and what has no content type of gRPC with 415 (gRPC over HTTP/2,
/// "Requests"), before anything is done for it.
///
/// The library would carry it out. A web page can make a browser send such requests to other hosts without asking
/// them first, with the certificate or from the network of whoever looks at the page; it cannot send this content
/// type.
#[derive(Clone)]
pub(crate) struct GrpcOnly<S>(S);

impl<S> GrpcOnly<S> {
    pub(in crate::server) fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B, A> Service<Request<B>> for GrpcOnly<S>
where
    S: Service<Request<B>, Response = Response<A>, Error = Infallible>,
    A: Default,
{
    type Response = Response<A>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<A>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.method() != Method::POST {
            let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, "the method of a call is POST");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Either::Right(ready(Ok(answer)));
        }
        if !is_grpc(request.headers()) {
            let message = "the content type of a call is application/grpc";
            return Either::Right(ready(Ok(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))));
        }
        Either::Left(self.0.call(request))
    }
}

/// Both for those who read HTTP and for those who read gRPC.
fn refused<A: Default>(http_status: StatusCode, message: &str) -> Response<A> {
    let mut answer = status::not_grpc(message).into_http();
    *answer.status_mut() = http_status;
    answer
}

/// Whether it is `application/grpc`, or that with a format of messages (`+proto`) or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return false };
    let Some((begin, rest)) = given.as_bytes().split_at_checked(GRPC.len()) else { return false };
    begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::is_grpc;

    fn is(content_type: &'static str) -> bool {
        is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]))
    }

    #[test]
    fn a_content_type_of_grpc_may_have_a_format_and_parameters() {
        for grpc in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "application/grpc ; x=y",
            "Application/gRPC",
        ] {
            assert!(is(grpc), "{grpc}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_something_else() {
        for other in [
            "",
            "text/plain",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpcx",
            "application/grp",
            " application/grpc",
            "text/plain;application/grpc",
        ] {
            assert!(!is(other), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
