//! The tunnel to one host through the proxy, and the proxy's status when it refuses the tunnel.
//!
//! hyper-util opens the tunnel. It drops the status of a refusal ("tunnel error: unsuccessful"), and reqwest accepts no
//! other connector. After a refusal, this module therefore sends a CONNECT of its own, and adds its status to the error.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use reqwest::ClientBuilder;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tower::{Layer, Service};

use super::Proxy;
use crate::http_client::{USER_AGENT, tls::TlsError};

/// The timeout of a probe. The timeout of connecting applies to the refused tunnel and its probe together.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for which the status of a probe stands for other refusals. A proxy that fails gets no more than one
/// additional request in this time.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum length of a status line, in bytes.
const MAX_STATUS_LINE: u64 = 8 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// The tunnel to one host through a proxy.
#[derive(Debug, Clone)]
pub(in crate::http_client) struct Tunnel {
    proxy: Arc<Proxy>,
    /// `host:port`.
    target: String,
}

/// The proxy refused the tunnel. The source is the error of the library.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy} answers CONNECT with {status}{}", self.login_hint())]
pub(in crate::http_client) struct TunnelRefused {
    proxy: Arc<Proxy>,
    status: StatusCode,
    source: BoxError,
}

impl TunnelRefused {
    fn login_hint(&self) -> String {
        let variable = self.proxy.variable;
        match (self.status, &self.proxy.authorization) {
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => {
                format!(" (it wants a user and a password, and {variable} has none)")
            }
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(_)) => {
                format!(" (it does not accept the user and the password in {variable})")
            }
            _ => String::new(),
        }
    }
}

impl Tunnel {
    pub(super) fn new(proxy: Arc<Proxy>, host: &str, port: u16) -> Self {
        Self { proxy, target: format!("{host}:{port}") }
    }

    /// Lets the client connect through the tunnel only. `tls` is the configuration of the client.
    pub(in crate::http_client) fn apply(
        &self,
        client: ClientBuilder,
        mut tls: ClientConfig,
    ) -> Result<ClientBuilder, TlsError> {
        let proxy = reqwest::Proxy::https(self.proxy.url.clone());
        let mut proxy = proxy.map_err(|error| TlsError::Client(Arc::new(error)))?;
        if let Some(authorization) = &self.proxy.authorization {
            proxy = proxy.custom_http_auth(authorization.clone());
        }
        tls.alpn_protocols.clear();
        let probe = TunnelProbe { tunnel: self.clone(), tls: Arc::new(tls), latest: Mutex::new(None) };
        Ok(client.proxy(proxy).connector_layer(ProbeLayer(Arc::new(probe))))
    }
}

/// Requests the proxy's status after a refusal.
struct TunnelProbe {
    tunnel: Tunnel,
    tls: Arc<ClientConfig>,
    /// The time of the latest probe, and its status. Locked while a probe runs.
    latest: Mutex<Option<(Instant, Option<StatusCode>)>>,
}

impl TunnelProbe {
    /// Adds the proxy's status to the error of a refused tunnel. Other errors are returned as they are.
    async fn explain(&self, error: BoxError) -> BoxError {
        // The library's type is private. Its error of a refusal is the only one that is no I/O error and has no source.
        if error.is::<io::Error>() || error.source().is_some() {
            return error;
        }
        match self.status().await {
            // The library accepts 200 only.
            Some(status) if status != StatusCode::OK => {
                TunnelRefused { proxy: Arc::clone(&self.tunnel.proxy), status, source: error }.into()
            }
            // The proxy has recovered, cannot be reached any more, or is being probed.
            Some(_) | None => error,
        }
    }

    /// The status of a CONNECT, at most [`PROBE_INTERVAL`] old. `None` if the proxy does not answer in HTTP, and while
    /// another probe runs: a proxy that does not answer the probe must not delay the other errors.
    async fn status(&self) -> Option<StatusCode> {
        let mut latest = self.latest.try_lock().ok()?;
        if let Some((at, status)) = *latest
            && at.elapsed() < PROBE_INTERVAL
        {
            return status;
        }
        // A failed probe explains nothing, and the library's error is logged.
        let status = timeout(PROBE_TIMEOUT, self.probe()).await.ok().and_then(Result::ok);
        *latest = Some((Instant::now(), status));
        status
    }

    async fn probe(&self) -> io::Result<StatusCode> {
        let url = &self.tunnel.proxy.url;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // An IPv6 address is in brackets.
        let host = host.trim_matches(['[', ']']).to_owned();
        let tcp = TcpStream::connect((&*host, port)).await?;
        if url.scheme() == "http" {
            return self.connect_status(tcp).await;
        }
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        self.connect_status(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?).await
    }

    /// Sends CONNECT, and returns the status of the response.
    async fn connect_status(&self, mut proxy: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<StatusCode> {
        let Tunnel { proxy: used, target } = &self.tunnel;
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {USER_AGENT}\r\n")
            .into_bytes();
        if let Some(authorization) = &used.authorization {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(authorization.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        proxy.write_all(&head).await?;
        let mut line = Vec::new();
        BufReader::new(proxy).take(MAX_STATUS_LINE).read_until(b'\n', &mut line).await?;
        status_of(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The status in a status line (RFC 9112, section 4).
fn status_of(line: &[u8]) -> Option<StatusCode> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    StatusCode::from_bytes(rest.split(|byte| byte.is_ascii_whitespace()).nth(1)?).ok()
}

/// Wraps the connector of the client.
#[derive(Clone)]
struct ProbeLayer(Arc<TunnelProbe>);

impl<S> Layer<S> for ProbeLayer {
    type Service = ProbeService<S>;

    fn layer(&self, connector: S) -> ProbeService<S> {
        ProbeService { connector, probe: Arc::clone(&self.0) }
    }
}

/// A connector that adds the proxy's status to its errors.
#[derive(Clone)]
struct ProbeService<S> {
    connector: S,
    probe: Arc<TunnelProbe>,
}

impl<S, R> Service<R> for ProbeService<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (connecting, probe) = (self.connector.call(request), Arc::clone(&self.probe));
        Box::pin(async move {
            let error = match connecting.await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            Err(probe.explain(error).await)
        })
    }
}
