//! The upstream: HTTP/2 over TLS, the same answers at once to every caller.
//!
//! It answers Countermand's REST calls as the Android Management API would, the relay's gRPC calls as a gRPC
//! server would, and token requests. Its only state is a count. It rejects a wrong request as the API would, so
//! that a target cannot be fast by sending one.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::files::Paths;
use crate::workload::{self, ByName, CANCEL, GET};
use crate::{Error, grpc, operation, process, tls};

/// Every device has this many operations, numbered from 0.
pub(crate) const OPERATIONS_OF_A_DEVICE: u64 = 10;

type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;
type Answer = Response<Either<Full<Bytes>, WithTrailers<Full<Bytes>, Trailers>>>;

/// A server of the operations, which counts its calls.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Whether every operation has finished; otherwise none ever does.
    pub(crate) finished: bool,
    /// The calls of AMAPI so far, rejected ones included.
    pub(crate) calls: AtomicU64,
}

/// Serves finished operations on a free port of the loopback until the process ends.
///
/// # Errors
///
/// When the certificate does not load or no port is free.
pub(crate) async fn run(paths: &Paths) -> Result<(), Error> {
    let acceptor = tls::acceptor(paths)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    process::announce(&listener)?;
    Arc::new(Upstream { finished: true, calls: AtomicU64::default() }).serve(listener, acceptor).await
}

impl Upstream {
    /// Serves in this process, on a free port of the loopback, while the runtime runs.
    ///
    /// # Errors
    ///
    /// When the certificate does not load or no port is free.
    pub(crate) async fn start(paths: &Paths, finished: bool) -> Result<(Arc<Self>, SocketAddr), Error> {
        let upstream = Arc::new(Self { finished, calls: AtomicU64::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        // A failure to accept fails the calls of the target, and the callers report it.
        tokio::spawn(Arc::clone(&upstream).serve(listener, tls::acceptor(paths)?));
        Ok((upstream, address))
    }

    /// # Errors
    ///
    /// When a connection cannot be accepted.
    async fn serve(self: Arc<Self>, listener: TcpListener, acceptor: TlsAcceptor) -> Result<(), Error> {
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let (upstream, acceptor) = (Arc::clone(&self), acceptor.clone());
            // A connection that breaks fails its client's calls, and the client reports it.
            tokio::spawn(async move {
                let stream = acceptor.accept(socket).await?;
                let service = service_fn(move |request| Arc::clone(&upstream).answer(request));
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
            });
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path();
        if head.method == Method::POST && path == "/token" {
            return Ok(json(StatusCode::OK, token(&body)?.into()));
        }
        if head.version != Version::HTTP_2 {
            return Ok(json(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "{}".into()));
        }
        // The relay's callers have no token: a gRPC call with one was not transcoded.
        let is_grpc =
            [CANCEL.method, GET.method].contains(&path) && !head.headers.contains_key(AUTHORIZATION);
        if head.method == Method::POST && is_grpc {
            let ByName { name } = ByName::decode(grpc::unframe(body)?)?;
            return match path == GET.method {
                true => message(&operation::message(name, self.finished).encode_to_vec()),
                false => message(&[]),
            };
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let resource = path.strip_prefix("/v1/").filter(|path| path.starts_with("enterprises/"));
        let enterprise = path.split('/').nth(3).unwrap_or_default();
        let authorised = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ya29."))
            .is_some_and(|account| account == workload::account_of(enterprise));
        Ok(match resource {
            None => json(StatusCode::NOT_FOUND, "{}".into()),
            Some(_) if !authorised => json(StatusCode::UNAUTHORIZED, "{}".into()),
            Some(_) if !body.is_empty() => json(StatusCode::BAD_REQUEST, "{}".into()),
            Some(resource) => self.amapi(&head.method, resource),
        })
    }

    /// `cancel`, `list` and `get` of `enterprises.devices.operations` in AMAPI's discovery document.
    fn amapi(&self, method: &Method, resource: &str) -> Answer {
        if *method == Method::POST && resource.ends_with(":cancel") {
            json(StatusCode::OK, "{}".into())
        } else if *method != Method::GET {
            json(StatusCode::METHOD_NOT_ALLOWED, "{}".into())
        } else if resource.ends_with("/operations") {
            let operations = (0..OPERATIONS_OF_A_DEVICE)
                .map(|number| operation::json(&format!("{resource}/{number}"), self.finished));
            let list = format!(r#"{{"operations":[{}]}}"#, operations.collect::<Vec<_>>().join(","));
            json(StatusCode::OK, list.into())
        } else {
            json(StatusCode::OK, operation::json(resource, self.finished).into())
        }
    }
}

/// A token that names the issuer of the assertion (RFC 7523) in `body`, so that a call with the token of another
/// account is rejected.
fn token(body: &[u8]) -> Result<String, Error> {
    let (_, assertion) = form_urlencoded::parse(body)
        .find(|(name, _)| name == "assertion")
        .ok_or("a token request without an assertion")?;
    let claims = assertion.split('.').nth(1).ok_or("an assertion without claims")?;
    // yup-oauth2 pads, against RFC 7515.
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('='))?;
    let claims: serde_json::Value = serde_json::from_slice(&claims)?;
    let issuer = claims["iss"].as_str().and_then(|email| email.split('@').next());
    let account = issuer.ok_or("an assertion without an issuer")?;
    Ok(format!(r#"{{"access_token":"ya29.{account}","expires_in":3600,"token_type":"Bearer"}}"#))
}

fn json(status: StatusCode, json: Bytes) -> Answer {
    let length = HeaderValue::from(json.len());
    let mut response = Response::new(Either::Left(Full::from(json)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// A gRPC answer with status OK and an encoded message.
fn message(message: &[u8]) -> Result<Answer, Error> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(grpc::frame(message)?).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
