//! HTTPS towards Google: the one module that names reqwest's client. The AMAPI client, the token endpoints and the
//! issuers' key endpoints use the same roots, proxies, limits and timeouts.
//!
//! Redirects are never followed, so no credential goes to a host that was not named. Nothing that was sent is sent
//! again here: `amapi::retry` is the one place for that. Only a request that never reached a connection, because a
//! kept connection had closed, is dispatched again by hyper-util (`retry_canceled_requests`, which reqwest leaves on).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use reqwest::{Method, Url, redirect, retry};
use rustls::RootCertStore;
use tokio_util::task::AbortOnDropHandle;

mod authorities;
mod body;
mod connect_gate;
mod failure;
pub mod tls;

pub use authorities::{Authorities, LoadedAuthorities};
pub use body::BodyError;
pub use failure::{Failure, Progress};

use connect_gate::ConnectGate;
use tls::TlsError;

/// The bound on making a connection: TCP, a proxy's CONNECT and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A kept HTTP/2 connection that was silent for this long gets a PING, and is closed when no reply comes within
/// [`PING_TIMEOUT`]. Otherwise a call on a dead connection would hang.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Our name in Google's logs.
const USER_AGENT: &str = concat!("countermand/", env!("CARGO_PKG_VERSION"));

/// A client for one kind of endpoint. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    active: Arc<ArcSwap<Pool>>,
    /// Ends with the last clone.
    _follower: Option<Arc<AbortOnDropHandle<()>>>,
}

/// The connections of one set of trusted roots. A new set gets a pool of its own, empty and with a closed gate.
#[derive(Debug)]
struct Pool {
    client: reqwest::Client,
    gate: ConnectGate,
}

/// Learns when a request is sent.
pub trait OnSent: Send + Sync + 'static {
    /// The request was handed to a connection: from now on the peer may act on it.
    fn sent(&self);
}

impl HttpClient {
    /// A client for `https` URLs, which honours `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, or for `http` URLs of a
    /// loopback host, which never uses a proxy: a token would cross the network in clear text.
    ///
    /// Reloaded authorities hold for new connections.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(url: &Url, authorities: &Authorities) -> Result<Self, TlsError> {
        let mut authorities = authorities.clone();
        let active = Arc::new(ArcSwap::from_pointee(Pool::new(url, authorities.active())?));
        let follower = authorities.may_change().then(|| {
            let background = authorities.background().clone();
            let follower = follow(Arc::clone(&active), authorities, url.clone());
            Arc::new(AbortOnDropHandle::new(background.spawn("HTTP client reload", follower)))
        });
        Ok(Self { active, _follower: follower })
    }

    /// Sends a request and waits for the head of its response, of whatever status.
    ///
    /// # Errors
    ///
    /// No response; [`Failure`] says how far the request went.
    // No async fn, whose future would have room for the request twice: as an argument and as a local.
    pub fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> impl Future<Output = Result<Response, Failure>> + Send {
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        let pool = self.active.load_full();
        async move { pool.send(request).await }
    }

    /// Sends a request without a body, likewise, and reports when it is sent.
    ///
    /// # Errors
    ///
    /// As for [`Self::send`].
    pub fn send_empty(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        on_sent: Arc<impl OnSent>,
    ) -> impl Future<Output = Result<Response, Failure>> + Send {
        let body = EmptyBody { on_sent, is_sent: AtomicBool::new(false) };
        self.send(method, url, headers, reqwest::Body::wrap(body))
    }
}

impl Pool {
    fn new(url: &Url, roots: Arc<RootCertStore>) -> Result<Self, TlsError> {
        Ok(Self { client: build(url, roots)?, gate: ConnectGate::new() })
    }

    async fn send(&self, request: reqwest::Request) -> Result<Response, Failure> {
        let _first = self.gate.pass().await;
        match self.client.execute(request).await.map_err(Failure::from) {
            Ok(response) => {
                self.gate.open();
                Ok(Response(response))
            }
            Err(failure) => {
                if failure.is_connection_lost {
                    self.gate.close();
                }
                Err(failure)
            }
        }
    }
}

/// The body of a request without one, which reports when the request is sent.
struct EmptyBody<S> {
    on_sent: Arc<S>,
    is_sent: AtomicBool,
}

impl<S: OnSent> http_body::Body for EmptyBody<S> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    /// hyper asks this once it has a connection for the request, and a stream where the connection is HTTP/2, right
    /// before it writes the head. No other sign of that moment passes through reqwest; tests over both versions hold
    /// hyper to it.
    fn is_end_stream(&self) -> bool {
        if !self.is_sent.swap(true, Ordering::Relaxed) {
            self.on_sent.sent();
        }
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

fn build(url: &Url, roots: Arc<RootCertStore>) -> Result<reqwest::Client, TlsError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(roots)?)
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never().max_retries_per_request(0))
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let builder = if url.scheme() == "http" { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| TlsError::Client(Arc::new(error)))
}

/// Replaces the pool when the authorities change.
async fn follow(active: Arc<ArcSwap<Pool>>, mut authorities: Authorities, url: Url) {
    loop {
        authorities.changed().await;
        match Pool::new(&url, authorities.active()) {
            Ok(pool) => active.store(Arc::new(pool)),
            Err(error) => {
                tracing::warn!(%error, "cannot build an HTTP client with the reloaded authorities: kept the old one");
            }
        }
    }
}

/// The head of a response, with its body still to come.
#[derive(Debug)]
pub struct Response(reqwest::Response);

impl Response {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        self.0.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// Reads the whole body, of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// It is longer, in which case reading stops there, or it breaks off.
    pub async fn body(self, limit: usize) -> Result<Vec<u8>, BodyError> {
        body::read(self.0, limit).await
    }
}
