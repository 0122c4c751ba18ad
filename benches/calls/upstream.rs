//! The constant upstream: HTTP/2 over TLS, the same answers at once to every caller.
//!
//! It answers Countermand's REST calls as the Android Management API would, the relay's gRPC calls as
//! a gRPC server would, and hands out a token. It does not work anything out, but it does refuse what
//! a real one would refuse, so that a target cannot look fast by sending something wrong.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use crate::files::Paths;
use crate::workload::CANCEL;
use crate::{Fault, child, tls};

const TOKEN: &str = r#"{"access_token":"ya29.bench","expires_in":3600,"token_type":"Bearer"}"#;
const AUTHORISED: &str = "Bearer ya29.bench";

/// A gRPC frame that holds an empty message: not compressed, length nought.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;
type Answer = Response<Either<Full<Bytes>, WithTrailers<Full<Bytes>, Trailers>>>;

/// Serves on a free port of the loopback until the process ends.
///
/// # Errors
///
/// When the certificate does not load or no port can be had.
pub(crate) async fn run(paths: &Paths) -> Result<(), Fault> {
    let acceptor = tls::acceptor(paths)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    child::announce(&listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        // A connection that breaks fails its client's calls, and the client reports it.
        tokio::spawn(async move {
            let stream = acceptor.accept(socket).await?;
            auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path();
    let over_http2 = head.version == Version::HTTP_2;
    let authorised = head.headers.get(AUTHORIZATION).is_some_and(|value| value == AUTHORISED);

    let (status, json) = if head.method != Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "{}")
    } else if path == "/token" {
        (StatusCode::OK, TOKEN)
    } else if !over_http2 {
        (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "{}")
    } else if path == CANCEL.method && body.len() > EMPTY_MESSAGE.len() {
        return Ok(grpc());
    } else if !(path.starts_with("/v1/enterprises/") && path.ends_with(":cancel")) {
        (StatusCode::NOT_FOUND, "{}")
    } else if !authorised {
        (StatusCode::UNAUTHORIZED, "{}")
    } else if !body.is_empty() {
        (StatusCode::BAD_REQUEST, "{}")
    } else {
        (StatusCode::OK, "{}")
    };
    let mut response = Response::new(Either::Left(Full::from(json)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
    Ok(response)
}

/// An OK whose message is empty, as `CancelOperation` answers.
fn grpc() -> Answer {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(EMPTY_MESSAGE).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
