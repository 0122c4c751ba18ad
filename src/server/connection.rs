//! One connection, from its first byte to its last: TLS where it is spoken, the preface of HTTP/2, the calls,
//! and an end in good time.

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
    conn_limit::HandshakeSlot,
    listener::Connected,
    peer::{Peer, PeerOrigin},
    preface::{self, AfterPreface},
    resets::Resets,
    router::Router,
    settings::Limits,
    tls::Tls,
    write_stall::WriteStalls,
};

/// A connection that was admitted.
pub(super) struct Admitted {
    /// The connection.
    pub(super) socket: Connected,
    /// One of `max_connections` permits.
    pub(super) permit: OwnedSemaphorePermit,
    /// The TLS configuration and a handshake slot, on a listener with TLS.
    pub(super) tls: Option<(Tls, HandshakeSlot)>,
}

/// Serves connections.
pub(super) struct Connections {
    router: Arc<Router>,
    limits: Limits,
    /// The time in which a caller must take a response.
    write_timeout: Duration,
    http2: http2::Builder<TokioExecutor>,
}

/// Why a connection must end.
enum End {
    /// The process drains.
    Drain,
    /// It has reached `max_connection_age`.
    Age,
    /// It has exceeded a limit.
    Exceeded(&'static str),
}

impl Connections {
    pub(super) fn new(router: Router, limits: Limits, write_timeout: Duration) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams_per_connection)
            .max_header_list_size(limits.max_header_list_bytes)
            .max_pending_accept_reset_streams(limits.max_pending_resets)
            .max_local_error_reset_streams(limits.max_resets_per_window)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout);
        Self { router: Arc::new(router), limits, write_timeout, http2 }
    }

    /// Serves one connection until its peer closes it, it reaches its age, or `ending`: then no new call is
    /// taken (GOAWAY), and it ends with the last one in flight.
    pub(super) async fn serve(self: Arc<Self>, admitted: Admitted, ending: watch::Receiver<bool>) {
        let Admitted { socket, permit: _permit, tls } = admitted;
        let origin = socket.origin();
        let deadline = Instant::now() + self.limits.handshake_timeout;
        let served = match (socket, tls) {
            (Connected::Unix(stream), _) => {
                self.drive(stream, Peer { origin, certificate: None }, deadline, ending).await
            }
            (Connected::Tcp(stream), None) => {
                self.drive(stream, Peer { origin, certificate: None }, deadline, ending).await
            }
            (Connected::Tcp(stream), Some((tls, handshake))) => {
                match perform_handshake(stream, &tls, handshake, origin, deadline, ending.clone()).await {
                    Ok((stream, peer)) => self.drive(stream, peer, deadline, ending).await,
                    Err(error) => Err(error.into()),
                }
            }
        };
        if let Err(error) = served {
            // A peer that disconnects or speaks another protocol is no error of ours.
            tracing::debug!(?origin, error = %error, "a connection ended early");
        }
    }

    async fn drive<T>(
        &self,
        mut stream: T,
        peer: Peer,
        deadline: Instant,
        mut ending: watch::Receiver<bool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        tokio::select! {
            // Who has said it gets a goodbye in a drain too.
            biased;
            read = preface::read(&mut stream) => read?,
            () = sleep_until(deadline) => return Err(late("HTTP/2 was not spoken in time").into()),
            () = super::signalled(&mut ending) => return Ok(()),
        }
        let Limits { max_resets_per_window, reset_window, max_connection_age_grace, .. } = self.limits;
        let resets = Resets::new(max_resets_per_window, reset_window);
        let stalls = WriteStalls::new(self.write_timeout);
        let service = self.router.for_connection(&peer, &resets, &stalls);
        let io = AfterPreface::new(TokioIo::new(stream));
        let mut connection = std::pin::pin!(self.http2.serve_connection(io, service));
        let exceeded = async || {
            tokio::select! {
                () = resets.exceeded() => "it reset too many calls",
                () = stalls.exceeded() => "it left a response unread for too long",
            }
        };
        // FuturesUnordered polls its future only when that was woken itself, so that calls do not pay for it.
        let mut ends = FuturesUnordered::from_iter([async {
            tokio::select! {
                () = super::signalled(&mut ending) => End::Drain,
                limit = exceeded() => End::Exceeded(limit),
                () = self.age() => End::Age,
            }
        }]);
        // The connection is first: a response that there was no time to write has not been left unread.
        let end = tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            Some(end) = ends.next() => end,
        };
        let grace = match end {
            End::Exceeded(limit) => return Err(limit.into()),
            // A drain has a deadline of its own.
            End::Drain => None,
            End::Age => Some(max_connection_age_grace),
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = &mut connection => Ok(ended?),
            limit = exceeded() => Err(limit.into()),
            () = passes(grace) => Err("it had calls in flight at the end of its age".into()),
        }
    }

    async fn age(&self) {
        passes(self.limits.max_connection_age.map(jittered)).await;
    }
}

/// Waits for a time; forever, when there is none.
async fn passes(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn perform_handshake(
    stream: TcpStream,
    tls: &Tls,
    mut handshake: HandshakeSlot,
    origin: PeerOrigin,
    deadline: Instant,
    mut ending: watch::Receiver<bool>,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    tokio::select! {
        accepted = tls.accept(stream) => {
            let (stream, certificate) = accepted?;
            Ok((stream, Peer { origin, certificate }))
        }
        () = sleep_until(deadline) => Err(late("the TLS handshake took too long")),
        () = handshake.revoked() => Err(late("the TLS handshake was revoked for a waiting connection")),
        () = super::signalled(&mut ending) => Err(late("the process drains")),
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Varied by a tenth, so that connections that began together do not reconnect together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
