//! The gRPC server: sockets, connections, and the services behind them.
//!
//! [`listener`] accepts a connection, [`conn_limit`] admits it, [`tls`] performs the handshake, and [`connection`]
//! serves it. [`router`] finds the service for a request. [`call`] handles a call of the five RPCs from its arrival
//! to its response. [`identity`] identifies the caller.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{background::Background, systemd::PassedSockets, telemetry::metrics::ConnectionMetrics};

pub mod authority;
pub mod call;
mod caller_limit;
pub mod cert_summary;
mod conn_limit;
mod connection;
pub mod health;
pub mod identity;
pub mod listener;
mod message;
pub mod peer;
mod preface;
pub mod reflection;
mod resets;
mod response_body;
mod router;
pub mod settings;
pub mod tls;
mod unix_socket;
pub mod until_drain;
mod write_stall;

use call::Calls;
use conn_limit::ConnLimit;
use connection::Connections;
use listener::Listener;
pub use router::Router;
use tls::{LoadedTls, Tls};
use unix_socket::SocketAccess;

/// The maximum time for which new connections are accepted after a drain started, so that load balancers see
/// NOT_SERVING before a connection is refused.
const ACCEPT_GRACE: Duration = Duration::from_secs(1);

/// The time for idle connections to close after the last call ended. A peer that does not respond must not delay
/// the exit (hyper #4170).
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The gRPC server, which is bound and does not serve yet.
pub struct Server {
    listeners: Vec<Listener>,
    conn_limit: ConnLimit,
    connections: Connections,
    calls: Arc<Calls>,
    background: Background,
}

/// The result of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call has its response, and every upstream call that was sent has completed.
    Complete,
    /// The drain timeout passed with this many calls in flight.
    TimedOut {
        /// Calls without a complete response, and upstream calls of callers that disconnected.
        calls: usize,
    },
    /// The operator ended the drain early, with this many calls in flight.
    Stopped {
        /// As for [`Self::TimedOut`].
        calls: usize,
    },
}

impl Server {
    /// Listens on every address, with the sockets of `passed` where there is one. Requests go to `router`.
    ///
    /// # Errors
    ///
    /// An address is not available. The text has the address.
    pub async fn bind(
        settings: &settings::Server,
        limits: &settings::Limits,
        tls: Option<LoadedTls>,
        router: Router,
        metrics: ConnectionMetrics,
        background: &Background,
        passed: &mut PassedSockets,
    ) -> io::Result<Self> {
        let settings::Server {
            listen,
            drain_timeout: _,
            drain_delay: _,
            unix_socket_mode,
            unix_socket_owner,
        } = settings;
        let access = SocketAccess { mode: *unix_socket_mode, owner: unix_socket_owner.unwrap_or_default() };
        let tls = tls.map(|loaded| Tls::start(loaded, metrics.clone(), background));
        let mut listeners = Vec::with_capacity(listen.len());
        for address in listen {
            listeners.push(Listener::bind(address, access, passed).await?);
        }
        let conn_limit = ConnLimit::new(limits.max_connections, limits.max_handshakes, tls, metrics.clone());
        let calls = Arc::clone(router.calls());
        let connections = Connections::new(router, limits.clone(), calls.upstream_timeout(), metrics);
        Ok(Self { listeners, conn_limit, connections, calls, background: background.clone() })
    }

    /// The bound addresses, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<settings::ListenAddress> {
        self.listeners.iter().map(|listener| listener.address().clone()).collect()
    }

    /// Serves until `drain` returns the drain timeout. Then accepts no new connection after a short grace, and waits for
    /// the calls in flight, at most until the timeout.
    pub async fn serve(self, drain: impl Future<Output = Duration>) -> Drained {
        let Self { listeners, conn_limit, connections, calls, background } = self;
        let (stop_accepting, stopped) = watch::channel(false);
        let (end, ending) = watch::channel(false);
        let tasks = TaskTracker::new();
        let (conn_limit, connections) = (Arc::new(conn_limit), Arc::new(connections));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (conn_limit, connections) = (Arc::clone(&conn_limit), Arc::clone(&connections));
            let (mut stopped, ending, tasks) = (stopped.clone(), ending.clone(), tasks.clone());
            let guard = background.guard("listener");
            accepting.spawn(async move {
                let _guard = guard;
                loop {
                    let admitted = tokio::select! {
                        admitted = async { conn_limit.admit(listener.accept().await).await } => admitted,
                        () = signalled(&mut stopped) => break,
                    };
                    if let Some(admitted) = admitted {
                        tasks.spawn(Arc::clone(&connections).serve(admitted, ending.clone()));
                    }
                }
            });
        }
        let drain_timeout = drain.await;

        let drained = timeout(drain_timeout, async {
            tokio::time::sleep(ACCEPT_GRACE.min(drain_timeout / 4)).await;
            stop_accepting.send_replace(true);
            while accepting.join_next().await.is_some() {}
            end.send_replace(true);
            tasks.close();
            calls.in_flight().close();
            calls.in_flight().wait().await;
            // A connection that is still open is idle. The end of the process closes it.
            let _ = timeout(CLOSE_TIMEOUT, tasks.wait()).await;
        })
        .await;
        match drained {
            Ok(()) => Drained::Complete,
            Err(_) => Drained::TimedOut { calls: calls.in_flight().len() },
        }
    }
}

/// Waits until the signal is true, or its sender was dropped.
async fn signalled(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|is_set| *is_set).await;
}
