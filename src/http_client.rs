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

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use reqwest::{Method, Url, redirect, retry};
use rustls::RootCertStore;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

mod authorities;
mod body;
mod connect_gate;
mod loss_detection;
mod pools;
mod proxy;
mod send_error;
pub mod tls;

pub use authorities::{Authorities, LoadedAuthorities};
pub use body::BodyError;
pub use proxy::{IgnoredVariable, Proxy, ProxySettings};
pub use send_error::{Progress, SendError};

use connect_gate::ConnectGate;
use loss_detection::{LossDetection, Responses};
use pools::Pools;
use proxy::Tunnel;
use tls::TlsError;

/// The timeout of connecting: TCP, a proxy's CONNECT and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of the headers of an HTTP/2 response, in bytes (RFC 9113, section 6.5.2). Above it, h2 resets the
/// stream, and an accepted cancel would be sent again. The default is 16 KiB, and HTTP/1.1 accepts 400 KiB.
const MAX_HEADER_LIST: u32 = 256 * 1024;

/// The client's name in Google's logs.
const USER_AGENT: &str = concat!("countermand/", env!("CARGO_PKG_VERSION"));

/// A client for one kind of endpoint. Cheap to clone. Clones share the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    pools: Arc<Pools>,
    /// The task that rebuilds the pool, aborted with the last clone.
    _rebuild: Option<Arc<AbortOnDropHandle<()>>>,
}

/// The connections of one set of trusted roots. A new set gets a new pool, which is empty and has a closed gate. So
/// do requests whose connection is silent; see [`HttpClient::replacement`].
#[derive(Debug)]
pub struct Pool {
    client: reqwest::Client,
    gate: ConnectGate,
    roots: Arc<RootCertStore>,
    responses: Responses,
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
        Self::with_loss_detection(url, authorities, proxy, LossDetection::default())
    }

    /// Builds a client as [`Self::new`] does, for requests that take at most `timeout`. A lost connection is detected
    /// within a third of it, and within a second at the earliest.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub fn for_requests_of(
        timeout: Duration,
        url: &Url,
        authorities: &Authorities,
        proxy: &ProxySettings,
    ) -> Result<Self, TlsError> {
        Self::with_loss_detection(url, authorities, proxy, LossDetection::for_requests_of(timeout))
    }

    fn with_loss_detection(
        url: &Url,
        authorities: &Authorities,
        proxy: &ProxySettings,
        detection: LossDetection,
    ) -> Result<Self, TlsError> {
        let mut authorities = authorities.clone();
        let pools = Arc::new(Pools::new(proxy.tunnel_to(url), detection, authorities.active())?);
        let rebuild = authorities.may_change().then(|| {
            let background = authorities.background().clone();
            let rebuild = rebuild_pool(Arc::clone(&pools), authorities);
            Arc::new(AbortOnDropHandle::new(background.spawn("HTTP client reload", rebuild)))
        });
        Ok(Self { pools, _rebuild: rebuild })
    }

    /// The connections that new requests use.
    #[must_use]
    pub fn pool(&self) -> Arc<Pool> {
        self.pools.active()
    }

    /// Other connections than those of `silent`: the active ones, if they have replaced `silent` by now, otherwise
    /// new ones. Concurrent requests share the new ones.
    ///
    /// # Errors
    ///
    /// The TLS configuration cannot be built.
    pub fn replacement(&self, silent: &Arc<Pool>) -> Result<Arc<Pool>, TlsError> {
        self.pools.replacement(silent)
    }

    /// Makes `replacement` active, because it has responded and `silent` has not. Does nothing when `silent` is no
    /// longer active.
    pub fn replace(&self, silent: &Arc<Pool>, replacement: Arc<Pool>) {
        self.pools.replace(silent, replacement);
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
        self.pool().start(method, url, headers, body.into())
    }
}

impl Pool {
    fn new(
        tunnel: Option<&Tunnel>,
        detection: LossDetection,
        roots: Arc<RootCertStore>,
    ) -> Result<Self, TlsError> {
        let client = build(tunnel, detection, Arc::clone(&roots))?;
        Ok(Self { client, gate: ConnectGate::new(), roots, responses: Responses::new() })
    }

    /// Sends a request without a body as [`HttpClient::send`] does, over these connections, and notifies `on_sent`.
    ///
    /// # Errors
    ///
    /// As for [`HttpClient::send`].
    pub fn send_empty<S: OnSent>(
        self: &Arc<Self>,
        method: Method,
        url: Url,
        headers: HeaderMap,
        on_sent: Arc<S>,
    ) -> impl Future<Output = Result<Response, SendError>> + Send + use<S> {
        let body = EmptyBody { on_sent, is_sent: AtomicBool::new(false) };
        Arc::clone(self).start(method, url, headers, reqwest::Body::wrap(body))
    }

    /// Whether a connection that has served a request before is silent since `sent`, the time at which another
    /// request was handed to it. An HTTP/2 connection serves all requests, so any response shows that it is alive.
    /// HTTP/1.1 has a connection for each request.
    #[must_use]
    pub fn is_silent_since(&self, sent: Instant) -> bool {
        self.responses.are_missing_since(sent)
    }

    fn start(
        self: Arc<Self>,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: reqwest::Body,
    ) -> impl Future<Output = Result<Response, SendError>> + Send {
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        async move { self.send(request).await }
    }

    async fn send(&self, request: reqwest::Request) -> Result<Response, SendError> {
        let _first = self.gate.pass().await;
        match self.client.execute(request).await.map_err(SendError::from) {
            Ok(response) => {
                self.gate.open();
                self.responses.record(response.version());
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

fn build(
    tunnel: Option<&Tunnel>,
    detection: LossDetection,
    roots: Arc<RootCertStore>,
) -> Result<reqwest::Client, TlsError> {
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
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .tcp_nodelay(true);
    let builder = detection.apply(builder);
    let builder = match tunnel {
        Some(tunnel) => tunnel.apply(builder, tls)?,
        None => builder,
    };
    builder.build().map_err(|error| TlsError::Client(Arc::new(error)))
}

/// Replaces the pool when the authorities change.
async fn rebuild_pool(pools: Arc<Pools>, mut authorities: Authorities) {
    loop {
        authorities.changed().await;
        if let Err(error) = pools.trust(authorities.active()) {
            tracing::warn!(%error, "failed to build an HTTP client with the reloaded certificates: the old client stays active");
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
