//! HTTPS towards Google: the one room that names reqwest. The AMAPI client and the token endpoint are
//! reached through the same settings, so that roots, proxies, limits and timeouts hold for both.
//!
//! Redirects are never followed, so no credential goes to a host that was not named; nothing is retried
//! here, since `amapi::retry` is the one place that does.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderMap;
use reqwest::{Method, Url, redirect, retry};
use rustls::RootCertStore;
use tokio_util::task::AbortOnDropHandle;

mod authorities;
mod body;
mod failure;
mod lead;
pub mod tls;

pub use authorities::Authorities;
pub use body::BodyError;
pub use failure::{Failure, Progress};

use lead::Lead;
use tls::TlsError;

/// The bound on making a connection: TCP, a proxy's CONNECT and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A kept HTTP/2 connection that has not been heard of for this long is asked for a sign of life, and
/// given up when none comes within [`PING_TIMEOUT`]; a call on a dead connection would else hang.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Our word in Google's logs.
const USER_AGENT: &str = concat!("countermand/", env!("CARGO_PKG_VERSION"));

/// A client for one kind of endpoint. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Arc<ArcSwap<reqwest::Client>>,
    lead: Arc<Lead>,
    /// Ends with the last clone.
    _follower: Option<Arc<AbortOnDropHandle<()>>>,
}

impl HttpClient {
    /// A client for `https` URLs, honouring `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, or for the `http`
    /// ones of a loopback host, which never go through a proxy: a token would cross the network in clear.
    ///
    /// Authorities that change are taken up for new connections.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(url: &Url, authorities: &Authorities) -> Result<Self, TlsError> {
        let mut authorities = authorities.clone();
        let client = Arc::new(ArcSwap::from_pointee(build(url, authorities.in_force())?));
        let follower = authorities.may_change().then(|| {
            let follower = follow(Arc::clone(&client), authorities, url.clone());
            Arc::new(AbortOnDropHandle::new(tokio::spawn(follower)))
        });
        Ok(Self { client, lead: Arc::new(Lead::new()), _follower: follower })
    }

    /// Sends a request and waits for the head of its answer, of whatever status.
    ///
    /// # Errors
    ///
    /// No answer; [`Failure`] says how far the request went.
    // No async fn, whose future has room for the request twice: as it is given, and as it is sent.
    pub fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> impl Future<Output = Result<Answer, Failure>> {
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        async move {
            let _place = self.lead.pass().await;
            let client = self.client.load_full();
            match client.execute(request).await.map_err(Failure::from) {
                Ok(response) => {
                    self.lead.answered();
                    Ok(Answer(response))
                }
                Err(failure) => {
                    self.lead.failed(failure.progress);
                    Err(failure)
                }
            }
        }
    }
}

fn build(url: &Url, roots: Arc<RootCertStore>) -> Result<reqwest::Client, TlsError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(roots)?)
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let builder = if url.scheme() == "http" { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| TlsError::Client(Arc::new(error)))
}

/// Takes up authorities when they change.
async fn follow(client: Arc<ArcSwap<reqwest::Client>>, mut authorities: Authorities, url: Url) {
    loop {
        authorities.changed().await;
        match build(&url, authorities.in_force()) {
            Ok(new) => client.store(Arc::new(new)),
            Err(error) => {
                tracing::warn!(%error, "no client can be made by the trusted certificates: the old ones stay in use");
            }
        }
    }
}

/// The head of an answer, with its body still to come.
#[derive(Debug)]
pub struct Answer(reqwest::Response);

impl Answer {
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
