//! Serves a connection: the TLS handshake, the HTTP/2 preface, the calls, and the close.

use std::{io, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

use super::{
    authority::AuthorityReader,
    conn_limit::RevocableSlot,
    listener::Connected,
    peer::{Peer, PeerOrigin},
    preface,
    resets::Resets,
    router::Router,
    settings::Limits,
    tls::Tls,
    write_stall::WriteStalls,
};
use crate::{
    log_throttle::LogThrottle,
    telemetry::metrics::{ConnectionMetrics, Transport},
};

/// An admitted connection.
pub(super) struct Admitted {
    /// The connection.
    pub(super) socket: Connected,
    /// One of `max_connections` permits.
    pub(super) permit: OwnedSemaphorePermit,
    /// Revoked to close the connection in favor of a new one. Released when the HTTP/2 preface has arrived.
    pub(super) preface: RevocableSlot,
    /// The TLS configuration and a handshake slot, on a listener with TLS.
    pub(super) tls: Option<(Tls, RevocableSlot)>,
}

/// Serves connections.
pub(super) struct Connections {
    router: Arc<Router>,
    limits: Limits,
    /// The timeout of writing a response.
    write_timeout: Duration,
    http2: http2::Builder<TokioExecutor>,
    invalid_authorities: LogThrottle,
    metrics: ConnectionMetrics,
}

/// The reason for closing a connection.
enum CloseReason {
    /// The process drains.
    Drain,
    /// The connection has reached `max_connection_age`.
    Age,
    /// The connection has exceeded a limit.
    Exceeded(&'static str),
}

impl Connections {
    pub(super) fn new(
        router: Router,
        limits: Limits,
        write_timeout: Duration,
        metrics: ConnectionMetrics,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams_per_connection)
            .max_header_list_size(limits.max_header_list_bytes)
            .max_pending_accept_reset_streams(limits.max_pending_resets)
            .max_local_error_reset_streams(limits.max_resets_per_window)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout);
        Self {
            router: Arc::new(router),
            limits,
            write_timeout,
            http2,
            invalid_authorities: LogThrottle::default(),
            metrics,
        }
    }

    /// Serves a connection until the peer closes it. When it reaches its maximum age, or when `ending` is true, the
    /// server accepts no new call (GOAWAY), and closes the connection after the last call in flight.
    pub(super) async fn serve(self: Arc<Self>, admitted: Admitted, ending: watch::Receiver<bool>) {
        let Admitted { socket, permit: _permit, mut preface, tls } = admitted;
        let origin = socket.origin();
        let _open = self.metrics.open(match (&socket, &tls) {
            (Connected::Unix(_), _) => Transport::Unix,
            (Connected::Tcp(_), None) => Transport::Tcp,
            (Connected::Tcp(_), Some(_)) => Transport::Tls,
        });
        let deadline = Instant::now() + self.limits.handshake_timeout;
        let served = match (socket, tls) {
            (Connected::Unix(stream), _) => {
                self.serve_http2(stream, Peer { origin, certificate: None }, preface, deadline, ending).await
            }
            (Connected::Tcp(stream), None) => {
                self.serve_http2(stream, Peer { origin, certificate: None }, preface, deadline, ending).await
            }
            (Connected::Tcp(stream), Some((tls, handshake))) => {
                let accepted = tokio::select! {
                    biased;
                    () = preface.revoked() => Err(replaced()),
                    accepted = perform_handshake(stream, &tls, handshake, origin, deadline, ending.clone()) => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => self.serve_http2(stream, peer, preface, deadline, ending).await,
                    Err(error) => Err(error.into()),
                }
            }
        };
        if let Err(error) = served {
            // At debug level, because peers may disconnect or speak another protocol.
            tracing::debug!(?origin, %error, "a connection ended early");
        }
    }

    async fn serve_http2<T>(
        &self,
        mut stream: T,
        peer: Peer,
        preface: RevocableSlot,
        deadline: Instant,
        mut ending: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        read_preface(&mut stream, preface, deadline, &mut ending).await?;
        let Limits { max_resets_per_window, reset_window, max_connection_age_grace, .. } = self.limits;
        let resets = Resets::new(max_resets_per_window, reset_window);
        let stalls = WriteStalls::new(self.write_timeout);
        let service = self.router.for_connection(&peer, &resets, &stalls);
        let stream = match peer.origin {
            PeerOrigin::Unix { .. } => AuthorityReader::replacing(stream),
            PeerOrigin::Loopback | PeerOrigin::OwnAddress | PeerOrigin::Network => {
                AuthorityReader::logging(stream, &self.invalid_authorities)
            }
        };
        let mut connection = std::pin::pin!(self.http2.serve_connection(TokioIo::new(stream), service));
        let exceeded = async || {
            tokio::select! {
                () = resets.exceeded() => "the peer reset too many calls",
                () = stalls.exceeded() => "the peer did not read a response in time",
            }
        };
        // FuturesUnordered polls its future only when that future is woken. Otherwise each call would poll it.
        let mut close_reasons = FuturesUnordered::from_iter([async {
            tokio::select! {
                () = super::signalled(&mut ending) => CloseReason::Drain,
                limit = exceeded() => CloseReason::Exceeded(limit),
                () = self.age() => CloseReason::Age,
            }
        }]);
        // The connection is polled first, so that hyper can write a response before its limit is checked.
        let reason = tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            Some(reason) = close_reasons.next() => reason,
        };
        let grace = match reason {
            CloseReason::Exceeded(limit) => return Err(limit.into()),
            // A drain has its own deadline.
            CloseReason::Drain => None,
            CloseReason::Age => Some(max_connection_age_grace),
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = &mut connection => Ok(ended?),
            limit = exceeded() => Err(limit.into()),
            () = elapsed(grace) => Err("calls were in flight at the end of the grace".into()),
        }
    }

    async fn age(&self) {
        elapsed(self.limits.max_connection_age.map(jittered)).await;
    }
}

/// Waits for a time; forever without one.
async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn perform_handshake(
    stream: TcpStream,
    tls: &Tls,
    mut handshake: RevocableSlot,
    origin: PeerOrigin,
    deadline: Instant,
    mut ending: watch::Receiver<bool>,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    tokio::select! {
        accepted = tls.accept(stream) => {
            let (stream, certificate) = accepted?;
            Ok((stream, Peer { origin, certificate }))
        }
        () = sleep_until(deadline) => Err(timed_out("the TLS handshake timed out")),
        () = handshake.revoked() => Err(timed_out("the TLS handshake was revoked for a waiting connection")),
        () = super::signalled(&mut ending) => Err(timed_out("the process drains")),
    }
}

/// Reads the HTTP/2 preface, and releases `slot`.
///
/// # Errors
///
/// The slot was revoked, even if the preface has arrived meanwhile: another connection waits for the close. Or the
/// preface is invalid, late or incomplete in a drain.
async fn read_preface(
    stream: &mut (impl AsyncRead + Unpin),
    mut slot: RevocableSlot,
    deadline: Instant,
    ending: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    tokio::select! {
        biased;
        () = slot.revoked() => return Err(replaced()),
        // The preface precedes the drain, so that a client that has sent it gets a GOAWAY.
        read = preface::read(stream) => read?,
        () = sleep_until(deadline) => return Err(timed_out("the HTTP/2 preface timed out")),
        () = super::signalled(ending) => return Err(timed_out("the process drains")),
    }
    if slot.release() { Ok(()) } else { Err(replaced()) }
}

fn replaced() -> io::Error {
    timed_out("the connection sent no HTTP/2 preface in time, and was closed for a new connection")
}

fn timed_out(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, problem)
}

/// Varies an age by up to a tenth, so that connections with the same start do not reconnect at the same time.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::server::conn_limit::ConnLimit;

    #[tokio::test]
    async fn a_replaced_connection_is_closed_though_its_preface_has_arrived() {
        let limit = ConnLimit::new(1, 1, None, ConnectionMetrics::unregistered());
        let (client, server) = UnixStream::pair().unwrap();
        let Admitted { socket, permit, preface, .. } = limit.admit(Connected::Unix(server)).await.unwrap();
        let Connected::Unix(mut stream) = socket else { unreachable!() };
        client.try_write(preface::PREFACE).unwrap();
        let (_open, mut ending) = watch::channel(false);
        let deadline = Instant::now() + Duration::from_secs(3600);
        let close = async {
            let error = read_preface(&mut stream, preface, deadline, &mut ending).await.unwrap_err();
            assert_eq!(error.to_string(), replaced().to_string());
            drop(permit);
        };
        let next = Connected::Unix(UnixStream::pair().unwrap().0);
        // The connection is revoked before its task runs.
        let (admitted, ()) = tokio::join!(biased; limit.admit(next), close);
        assert!(admitted.is_some());
    }
}
