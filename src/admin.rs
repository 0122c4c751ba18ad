//! The operator's HTTP port: `/livez` and `/readyz`, over HTTP/1.1.

use std::{
    collections::VecDeque, convert::Infallible, future::ready, io, net::SocketAddr, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle, time::sleep};

use crate::{credentials::Credentials, serving::Serving, systemd::PassedSockets};

mod readyz;
pub mod settings;

/// A client must send the head of its request within this time. The time is long because pooling clients open spare
/// connections and use them later.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The smallest limit that hyper accepts. Probes send a few hundred bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Open connections. Probes and operators need a few. `app::open_files` reserves their descriptors.
const MAX_CONNECTIONS: usize = 16;

/// The pause after a failed accept, for example when the process has no free file descriptor.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The bound port. [`Admin::serve`] serves it.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    view: Arc<View>,
}

/// The state that the pages show.
struct View {
    credentials: Arc<Credentials>,
    serving: watch::Receiver<Serving>,
}

impl Admin {
    /// Listens on the port.
    ///
    /// # Errors
    ///
    /// The address cannot be bound; the text names it.
    pub async fn bind(
        address: SocketAddr,
        credentials: Arc<Credentials>,
        serving: watch::Receiver<Serving>,
        passed: &mut PassedSockets,
    ) -> io::Result<Self> {
        let listener = passed.listen_tcp(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, view: Arc::new(View { credentials, serving }) })
    }

    /// The address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends. A drain does not stop it, because `/readyz` reports the drain.
    pub async fn serve(self) {
        let http = http();
        let mut connections = VecDeque::new();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin port could not accept a connection");
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            let view = Arc::clone(&self.view);
            let service = service_fn(move |request| ready(Ok::<_, Infallible>(respond(&view, &request))));
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the admin port ended early");
                }
            });
            keep(&mut connections, task.abort_handle());
        }
    }
}

/// Closes the oldest connection when there are more than [`MAX_CONNECTIONS`]. Idle clients cannot use up the file
/// descriptors, and the newest client, for example a probe, is always served.
fn keep(connections: &mut VecDeque<AbortHandle>, newest: AbortHandle) {
    connections.retain(|connection| !connection.is_finished());
    connections.push_back(newest);
    if connections.len() > MAX_CONNECTIONS
        && let Some(oldest) = connections.pop_front()
    {
        oldest.abort();
    }
}

/// One request per connection. With keep-alive, the timeout would close an idle connection just as a probe with the
/// same period uses it again.
fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.keep_alive(false);
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    http
}

fn respond(view: &View, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let mut response = Response::default();
    if !matches!(path, "/livez" | "/readyz") {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
    } else if path == "/livez" {
        response = page(StatusCode::OK, "text/plain; charset=utf-8", "ok\n");
    } else {
        response = readyz::ready(view, request.headers());
    }
    response
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_half_a_request_is_disconnected() {
        for (sent, timeout) in [
            ("", HEAD_TIMEOUT),
            ("GET /livez HTTP/1.1\r\nhost:", HEAD_TIMEOUT),
            ("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", Duration::ZERO),
        ] {
            let (mut client, server) = duplex(1024);
            let service =
                service_fn(|_| ready(Ok::<_, Infallible>(page(StatusCode::OK, "text/plain", "ok"))));
            let connection = tokio::spawn(http().serve_connection(TokioIo::new(server), service));
            client.write_all(sent.as_bytes()).await.unwrap();
            let start = Instant::now();
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            assert!(start.elapsed().abs_diff(timeout) < Duration::from_millis(10), "{sent:?}");
            if timeout.is_zero() {
                assert!(response.contains("connection: close"), "{response}");
            }
            connection.await.unwrap().ok();
        }
    }
}
