//! A port that serves pages over HTTP/1.1 in plaintext, to a few clients.

use std::{collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::AbortHandle, time::sleep};

use super::pages::Pages;
use crate::{loopback::is_loopback, systemd::PassedSockets};

/// A client must send the head of its request within this time. The time is long because pooling clients open spare
/// connections and use them later.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The smallest limit that hyper accepts. Probes send a few hundred bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Open connections. Probes and operators need a few. `app::open_files` reserves their descriptors.
const MAX_CONNECTIONS: usize = 16;

/// The pause after a failed accept, for example when the process has no free file descriptor.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The bound port. [`HttpPort::serve`] serves it.
pub struct HttpPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpPort {
    /// Listens on the port.
    ///
    /// # Errors
    ///
    /// The address cannot be bound; the text names it.
    pub async fn bind(address: SocketAddr, passed: &mut PassedSockets) -> io::Result<Self> {
        let listener = passed.listen_tcp(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends. A drain does not stop it, because `/readyz` reports the drain.
    pub async fn serve(self, pages: Pages) {
        let (pages, http) = (Arc::new(pages), http());
        let mut connections = VecDeque::new();
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "an HTTP port could not accept a connection");
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            let pages = Arc::clone(&pages);
            let service = service_fn(move |request| {
                let pages = Arc::clone(&pages);
                async move { Ok::<_, Infallible>(pages.respond(request, is_loopback(peer)).await) }
            });
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to an HTTP port ended early");
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

#[cfg(test)]
mod tests {
    use std::future::ready;

    use http::{Response, StatusCode};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;
    use crate::admin::pages::page;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_half_a_request_is_disconnected() {
        for (sent, timeout) in [
            ("", HEAD_TIMEOUT),
            ("GET /livez HTTP/1.1\r\nhost:", HEAD_TIMEOUT),
            ("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", Duration::ZERO),
        ] {
            let (mut client, server) = duplex(1024);
            let ok = || -> Response<_> { page(StatusCode::OK, "text/plain", "ok") };
            let service = service_fn(move |_| ready(Ok::<_, Infallible>(ok())));
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
