//! The HTTPS client: the only module that names reqwest's client. The AMAPI client, the token endpoints and the
//! issuers' key endpoints use the same roots, proxies, limits and timeouts.
//!
//! Redirects are never followed, so no credential is sent to a host that is not configured. This module does not
//! retry; `amapi::retry` does. hyper-util dispatches a request again only when a pooled connection had closed
//! before the request reached it (`retry_canceled_requests`, which reqwest leaves on).

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
mod proxy;
mod send_error;
pub mod tls;

pub use authorities::{Authorities, LoadedAuthorities};
pub use body::BodyError;
pub use proxy::{IgnoredVariable, Proxy, ProxySettings};
pub use send_error::{Progress, SendError};

use connect_gate::ConnectGate;
use proxy::Tunnel;
use tls::TlsError;

/// The timeout of connecting: TCP, a proxy's CONNECT and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The idle time after which an HTTP/2 connection gets a PING. A connection without a reply within [`PING_TIMEOUT`]
/// is closed. Otherwise a call on a dead connection would hang.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The client's name in Google's logs.
const USER_AGENT: &str = concat!("countermand/", env!("CARGO_PKG_VERSION"));

/// A client for one kind of endpoint. Cheap to clone. Clones share the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    active: Arc<ArcSwap<Pool>>,
    /// The task that rebuilds the pool, aborted with the last clone.
    _rebuild: Option<Arc<AbortOnDropHandle<()>>>,
}

/// The connections of one set of trusted roots. A new set gets a new pool, which is empty and has a closed gate.
#[derive(Debug)]
struct Pool {
    client: reqwest::Client,
    gate: ConnectGate,
}

/// Is notified when a request is sent.
pub trait OnSent: Send + Sync + 'static {
    /// The request was handed to a connection. From now on the peer may act on it.
    fn sent(&self);
}

impl HttpClient {
    /// Builds a client for the scheme, host and port of `url`. `proxy` decides whether it connects through the
    /// proxy.
    ///
    /// Reloaded authorities apply to new connections.
    ///
    /// # Errors
    ///
    /// The TLS configuration cannot be built.
    pub fn new(url: &Url, authorities: &Authorities, proxy: &ProxySettings) -> Result<Self, TlsError> {
        let mut authorities = authorities.clone();
        let tunnel = proxy.tunnel_to(url);
        let active = Arc::new(ArcSwap::from_pointee(Pool::new(tunnel.as_ref(), authorities.active())?));
        let rebuild = authorities.may_change().then(|| {
            let background = authorities.background().clone();
            let rebuild = rebuild_pool(Arc::clone(&active), authorities, tunnel);
            Arc::new(AbortOnDropHandle::new(background.spawn("HTTP client reload", rebuild)))
        });
        Ok(Self { active, _rebuild: rebuild })
    }

    /// Sends a request and waits for the head of its response, whatever its status.
    ///
    /// # Errors
    ///
    /// There is no response. [`SendError`] has the progress of the request.
    // Not an async fn, because its future would store the request twice: as an argument and as a local.
    pub fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> impl Future<Output = Result<Response, SendError>> + Send {
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        let pool = self.active.load_full();
        async move { pool.send(request).await }
    }

    /// Sends a request without a body as [`Self::send`] does, and notifies `on_sent`.
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
    ) -> impl Future<Output = Result<Response, SendError>> + Send {
        let body = EmptyBody { on_sent, is_sent: AtomicBool::new(false) };
        self.send(method, url, headers, reqwest::Body::wrap(body))
    }
}

impl Pool {
    fn new(tunnel: Option<&Tunnel>, roots: Arc<RootCertStore>) -> Result<Self, TlsError> {
        Ok(Self { client: build(tunnel, roots)?, gate: ConnectGate::new() })
    }

    async fn send(&self, request: reqwest::Request) -> Result<Response, SendError> {
        let _first = self.gate.pass().await;
        match self.client.execute(request).await.map_err(SendError::from) {
            Ok(response) => {
                self.gate.open();
                Ok(Response(response))
            }
            Err(error) => {
                if error.is_connection_lost {
                    self.gate.close();
                }
                Err(error)
            }
        }
    }
}

/// The body of a request without a body. Detects that the request is sent.
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

    /// hyper calls this immediately before it writes the head, when it has a connection and, with HTTP/2, a stream.
    /// reqwest exposes no other hook for that moment. Tests with both HTTP versions verify hyper's behavior.
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

fn build(tunnel: Option<&Tunnel>, roots: Arc<RootCertStore>) -> Result<reqwest::Client, TlsError> {
    let tls = tls::client_config(roots)?;
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        // Otherwise reqwest reads the variables itself.
        .no_proxy()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never().max_retries_per_request(0))
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let builder = match tunnel {
        Some(tunnel) => tunnel.apply(builder, tls)?,
        None => builder,
    };
    builder.build().map_err(|error| TlsError::Client(Arc::new(error)))
}

/// Replaces the pool when the authorities change.
async fn rebuild_pool(active: Arc<ArcSwap<Pool>>, mut authorities: Authorities, tunnel: Option<Tunnel>) {
    loop {
        authorities.changed().await;
        match Pool::new(tunnel.as_ref(), authorities.active()) {
            Ok(pool) => active.store(Arc::new(pool)),
            Err(error) => {
                tracing::warn!(%error, "failed to build an HTTP client with the reloaded certificates: the old client stays active");
            }
        }
    }
}

/// The head of a response. The body is not read yet.
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

    /// Reads the complete body, of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// The body is longer than `limit`, or incomplete. Reading stops at `limit`.
    pub async fn body(self, limit: usize) -> Result<Vec<u8>, BodyError> {
        body::read(self.0, limit).await
    }
}
