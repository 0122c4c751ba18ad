//! The upstream: HTTP/2 over TLS, with constant responses.
//!
//! It answers Countermand's REST calls like the Android Management API, the relay's gRPC cancels like a gRPC server,
//! and token requests. Its only state is a counter. It rejects malformed requests like the API, so that a target
//! gains nothing from sending them.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::files::Files;
use crate::rows::CANCEL_METHOD;
use crate::{Error, account_of, grpc, operation, process};

/// The number of operations of every device. They are numbered from 0.
pub(crate) const OPERATIONS_OF_A_DEVICE: u64 = 10;

/// The method of a collector of traces, whose response is an empty message too.
const EXPORT_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;
type UpstreamResponse = Response<Either<Full<Bytes>, WithTrailers<Full<Bytes>, Trailers>>>;

/// Serves on a free loopback port until the process ends.
pub(crate) async fn run(files: &Files) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    process::announce(&listener)?;
    serve(listener, files.acceptor(false)?, Arc::default()).await
}

/// Serves in this process, on a free loopback port. Returns the counter of AMAPI calls, which includes rejected calls.
pub(crate) async fn start(files: &Files) -> Result<(Arc<AtomicU64>, SocketAddr), Error> {
    let calls = Arc::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    // A failed accept is not reported here, because the callers report the failed calls.
    tokio::spawn(serve(listener, files.acceptor(false)?, Arc::clone(&calls)));
    Ok((calls, address))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, calls: Arc<AtomicU64>) -> Result<(), Error> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (calls, acceptor) = (Arc::clone(&calls), acceptor.clone());
        // A failed connection is not reported here, because its client reports the failed calls.
        tokio::spawn(async move {
            let stream = acceptor.accept(socket).await?;
            let service = service_fn(move |request| respond(Arc::clone(&calls), request));
            auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn respond(calls: Arc<AtomicU64>, request: Request<Incoming>) -> Result<UpstreamResponse, Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path();
    if head.method == Method::POST && path == "/token" {
        return Ok(json(StatusCode::OK, token(&body)?));
    }
    if head.version != Version::HTTP_2 {
        return Ok(json(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "{}"));
    }
    if path == EXPORT_METHOD {
        return empty_message();
    }
    // The relay's callers have no token. A gRPC call with a token was not transcoded by Envoy.
    let authorization = head.headers.get(AUTHORIZATION);
    if head.method == Method::POST && path == CANCEL_METHOD && authorization.is_none() {
        grpc::unframe(body)?;
        return empty_message();
    }
    calls.fetch_add(1, Ordering::Relaxed);
    let enterprise = path.split('/').nth(3).unwrap_or_default();
    let authorized = authorization
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ya29."))
        .is_some_and(|account| account == account_of(enterprise));
    let Some(resource) = path.strip_prefix("/v1/").filter(|path| path.starts_with("enterprises/")) else {
        return Ok(json(StatusCode::NOT_FOUND, "{}"));
    };
    Ok(if !authorized {
        json(StatusCode::UNAUTHORIZED, "{}")
    } else if !body.is_empty() {
        json(StatusCode::BAD_REQUEST, "{}")
    } else if head.method == Method::POST && resource.ends_with(":cancel") {
        json(StatusCode::OK, "{}")
    } else if head.method != Method::GET {
        json(StatusCode::METHOD_NOT_ALLOWED, "{}")
    } else if resource.ends_with("/operations") {
        let operations =
            (0..OPERATIONS_OF_A_DEVICE).map(|number| operation::json(&format!("{resource}/{number}")));
        json(StatusCode::OK, format!(r#"{{"operations":[{}]}}"#, operations.collect::<Vec<_>>().join(",")))
    } else {
        json(StatusCode::OK, operation::json(resource))
    })
}

/// A token that contains the issuer of the assertion (RFC 7523) in `body`, so that a call with the token of another
/// account is rejected.
fn token(body: &[u8]) -> Result<String, Error> {
    let (_, assertion) = form_urlencoded::parse(body)
        .find(|(name, _)| name == "assertion")
        .ok_or("a token request without an assertion")?;
    let claims = assertion.split('.').nth(1).ok_or("an assertion without claims")?;
    // yup-oauth2 adds padding, contrary to RFC 7515.
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('='))?;
    let claims: serde_json::Value = serde_json::from_slice(&claims)?;
    let issuer = claims["iss"].as_str().and_then(|email| email.split('@').next());
    let account = issuer.ok_or("an assertion without an issuer")?;
    Ok(format!(r#"{{"access_token":"ya29.{account}","expires_in":3600,"token_type":"Bearer"}}"#))
}

fn json(status: StatusCode, json: impl Into<Bytes>) -> UpstreamResponse {
    let mut response = Response::new(Either::Left(Full::from(json.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    response
}

/// The gRPC response of a cancel.
fn empty_message() -> Result<UpstreamResponse, Error> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(grpc::frame(&[])?).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
