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
    resets::{Counted, Resets},
    routes::Routes,
    settings::Limits,
    tls::Tls,
    unsent::{Unsent, Waiting},
};

/// A connection that was let in.
pub(super) struct Admitted {
    /// The connection.
    pub(super) socket: Connected,
    /// Its place among the connections.
    pub(super) place: OwnedSemaphorePermit,
    /// Its place among the handshakes, and what to shake hands by, where TLS is spoken.
    pub(super) tls: Option<(Tls, HandshakeSlot)>,
}

/// What all connections have in common.
pub(super) struct Connections {
    routes: Arc<Routes>,
    limits: Limits,
    /// How long an answer may be left unread.
    patience: Duration,
    http2: http2::Builder<TokioExecutor>,
}

/// Why a connection is to end.
enum End {
    /// The process drains.
    Drain,
    /// It has reached `max_connection_age`.
    Age,
    /// It reset more calls than `max_resets_per_window`.
    Resets,
    /// It has left an answer unread for too long.
    Unread,
}

impl Connections {
    pub(super) fn new(routes: Routes, limits: Limits, patience: Duration) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams_per_connection)
            .max_header_list_size(limits.max_header_list_bytes)
            .max_pending_accept_reset_streams(limits.max_pending_resets)
            .max_local_error_reset_streams(limits.max_resets_per_window)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout);
        Self { routes: Arc::new(routes), limits, patience, http2 }
    }

    /// Serves one connection until its peer closes it, it reaches its age, or `ending`: then no new call is
    /// taken (GOAWAY), and it ends with the last one in flight.
    pub(super) async fn serve(self: Arc<Self>, admitted: Admitted, ending: watch::Receiver<bool>) {
        let Admitted { socket, place: _place, tls } = admitted;
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
                match shake_hands(stream, &tls, handshake, origin, deadline, ending.clone()).await {
                    Ok((stream, peer)) => self.drive(stream, peer, deadline, ending).await,
                    Err(error) => Err(error.into()),
                }
            }
        };
        if let Err(error) = served {
            // A peer that goes without a goodbye, or does not speak our language, is its own affair.
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
            () = super::told(&mut ending) => return Ok(()),
        }
        let Limits { max_resets_per_window, reset_window, max_connection_age_grace: grace, .. } = self.limits;
        let resets = Resets::new(max_resets_per_window, reset_window);
        let unsent = Unsent::new(self.patience);
        let service = Waiting::new(self.routes.of(&peer), Arc::clone(&unsent));
        let service = Counted::new(service, Arc::clone(&resets));
        let io = AfterPreface::new(TokioIo::new(stream));
        let mut connection = std::pin::pin!(self.http2.serve_connection(io, service));
        // Among others of its kind a future is polled only when it was woken itself: calls do not pay for it.
        let mut ends = FuturesUnordered::from_iter([self.end(ending, &resets, &unsent)]);
        // Nor has anybody left unread what there was no time to send: that goes first.
        let end = tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            Some(end) = ends.next() => end,
        };
        let too_many = "it reset too many calls";
        let unread = "it left an answer unread for too long";
        match end {
            End::Resets => return Err(too_many.into()),
            End::Unread => return Err(unread.into()),
            End::Drain => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = &mut connection => ended?,
                    () = unsent.too_long() => return Err(unread.into()),
                }
            }
            End::Age => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = &mut connection => ended?,
                    () = sleep(grace) => return Err("it was not done when it had to go for its age".into()),
                    () = resets.too_many() => return Err(too_many.into()),
                    () = unsent.too_long() => return Err(unread.into()),
                }
            }
        }
        Ok(())
    }

    async fn end(&self, mut ending: watch::Receiver<bool>, resets: &Resets, unsent: &Unsent) -> End {
        let age = async {
            match self.limits.max_connection_age {
                Some(age) => sleep(jittered(age)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = super::told(&mut ending) => End::Drain,
            () = resets.too_many() => End::Resets,
            () = unsent.too_long() => End::Unread,
            () = age => End::Age,
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    tls: &Tls,
    mut handshake: HandshakeSlot,
    origin: PeerOrigin,
    deadline: Instant,
    mut ending: watch::Receiver<bool>,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    tokio::select! {
        shaken = tls.accept(stream) => {
            let (stream, certificate) = shaken?;
            Ok((stream, Peer { origin, certificate }))
        }
        () = sleep_until(deadline) => Err(late("hands were not shaken in time")),
        () = handshake.revoked() => Err(late("the handshake gave way to others that wait")),
        () = super::told(&mut ending) => Err(late("hands were not shaken before the drain")),
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Give or take a tenth, so that connections that began together do not come back together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
