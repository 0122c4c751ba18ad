//! One connection of HTTP/2, from its first byte to its last.

use std::{sync::Arc, time::Duration};

use hyper::{rt, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;

use super::{listener::Connected, peer::Peer, routes::Routes};

/// The most calls on one connection at once; a client queues what is beyond.
const MAX_STREAMS: u32 = 1024;

/// More than the headers of any gRPC call: those of a Python future grow by one with each poll, past what hyper
/// allows by itself (google.api_core, `operation.from_gapic` with `grpc_metadata`).
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Callers who give up reset their calls, and gRPC clients do so in bursts; only far more resets of calls
/// that were not even begun look like an attack (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 256;

/// A peer that has not been heard of for this long is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one connection until its peer closes it, or until `ending`: then no new call is taken (GOAWAY),
/// and it ends with the last one in flight.
pub(super) async fn serve(socket: Connected, routes: Arc<Routes>, ending: watch::Receiver<bool>) {
    let peer = Peer { place: socket.place(), certificate: None };
    match socket {
        Connected::Tcp(stream) => drive(TokioIo::new(stream), peer, &routes, ending).await,
        Connected::Unix(stream) => drive(TokioIo::new(stream), peer, &routes, ending).await,
    }
}

async fn drive<T>(io: T, peer: Peer, routes: &Arc<Routes>, mut ending: watch::Receiver<bool>)
where
    T: rt::Read + rt::Write + Unpin,
{
    let service = routes.of(&peer);
    let mut connection = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(io, service)
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = super::told(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A peer that goes without a goodbye is its own affair.
        tracing::debug!(place = ?peer.place, %error, "a connection ended early");
    }
}
