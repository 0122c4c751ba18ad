//! What serves gRPC: sockets, connections, and the services behind them.
//!
//! A connection enters in [`listener`], is admitted by [`conn_limit`], shakes hands by [`tls`] and is driven in
//! [`connection`]; for each of its calls [`routes`] finds the service, and those of the five RPCs pass the
//! [`layers`], which know by [`identity`] who calls.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{background::Background, operations::Operations};

pub mod cert_summary;
mod conn_limit;
mod connection;
pub mod health;
pub mod identity;
mod layers;
pub mod listener;
mod log_throttle;
pub mod peer;
mod preface;
pub mod reflection;
mod resets;
mod routes;
pub mod settings;
pub mod tls;
mod unix_socket;
mod unsent;
pub mod until_drain;

use crate::serving::Serving;
use conn_limit::ConnLimit;
use connection::Connections;
use identity::Identities;
pub use layers::Recorder;
use listener::Listener;
use routes::Routes;
use tls::Tls;

/// The longest time for which new connections are still taken after a drain began, so that those who
/// balance load have seen NOT_SERVING before they are refused.
const GRACE: Duration = Duration::from_secs(1);

/// How long connections without a call may take to close after the last call ended: a peer that does not
/// answer must not hold the process (hyper #4170).
const CLOSING: Duration = Duration::from_millis(500);

/// The gRPC server, bound and not yet serving.
pub struct Server {
    listeners: Vec<Listener>,
    door: ConnLimit,
    connections: Connections,
    calls: TaskTracker,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered, and the answers sent to all who took them.
    Whole,
    /// The time was over with this many calls still in flight.
    Cut {
        /// Calls that got no answer, or not all of it.
        calls: usize,
    },
}

impl Server {
    /// Reads the files of TLS, and binds every address; calls are recorded by `recorder`. A caller has
    /// `upstream_timeout` at most for the message of a call to come, and for its answer to be taken.
    ///
    /// # Errors
    ///
    /// An address cannot be had, or a file was replaced by something else since the configuration was checked;
    /// the text names it.
    pub async fn bind(
        settings: &settings::Server,
        upstream_timeout: Duration,
        operations: Operations,
        identities: Arc<Identities>,
        recorder: Recorder,
        serving: watch::Receiver<Serving>,
    ) -> io::Result<Self> {
        let settings::Server { listen, tls, unix_socket, drain_timeout: _, limits } = settings;
        let tls = tls.clone().map(|files| Tls::start(files, &Background::unsupervised())).transpose()?;
        let mut listeners = Vec::with_capacity(listen.len());
        for address in listen {
            listeners.push(Listener::bind(address, unix_socket).await?);
        }
        let calls = TaskTracker::new();
        let of_calls = layers::Limits {
            places: Arc::new(Semaphore::new(limits.max_concurrent_calls)),
            calls: calls.clone(),
            upstream_timeout,
            recorder,
        };
        let routes = Routes::new(operations, identities, of_calls, limits.max_request_bytes, serving);
        let door = ConnLimit::new(limits.max_connections, limits.max_handshakes, tls);
        let connections = Connections::new(routes, limits.clone(), upstream_timeout);
        Ok(Self { listeners, door, connections, calls })
    }

    /// The addresses that are listened on, with the ports that were found.
    #[must_use]
    pub fn addresses(&self) -> Vec<settings::ListenAddress> {
        self.listeners.iter().map(|listener| listener.address().clone()).collect()
    }

    /// Serves until `drain` says so, then takes no new connection after a short grace, answers the calls
    /// in flight, and ends: at the latest after `drain_timeout`.
    pub async fn serve(self, mut drain: watch::Receiver<bool>, drain_timeout: Duration) -> Drained {
        let Self { listeners, door, connections, calls } = self;
        let (stop_accepting, stopped) = watch::channel(false);
        let (end, ending) = watch::channel(false);
        let tasks = TaskTracker::new();
        let (door, connections) = (Arc::new(door), Arc::new(connections));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (door, connections) = (Arc::clone(&door), Arc::clone(&connections));
            let (mut stopped, ending, tasks) = (stopped.clone(), ending.clone(), tasks.clone());
            accepting.spawn(async move {
                loop {
                    let admitted = tokio::select! {
                        admitted = async { door.admit(listener.accept().await).await } => admitted,
                        () = told(&mut stopped) => break,
                    };
                    if let Some(admitted) = admitted {
                        tasks.spawn(Arc::clone(&connections).serve(admitted, ending.clone()));
                    }
                }
            });
        }
        told(&mut drain).await;

        let drained = timeout(drain_timeout, async {
            tokio::time::sleep(GRACE.min(drain_timeout / 4)).await;
            stop_accepting.send_replace(true);
            while accepting.join_next().await.is_some() {}
            end.send_replace(true);
            tasks.close();
            calls.close();
            calls.wait().await;
            // Whoever has not closed by now is idle: its connection ends with the process.
            let _ = timeout(CLOSING, tasks.wait()).await;
        })
        .await;
        match drained {
            Ok(()) => Drained::Whole,
            Err(_) => Drained::Cut { calls: calls.len() },
        }
    }
}

/// Waits until `word` says so, or whoever would say it is gone.
async fn told(word: &mut watch::Receiver<bool>) {
    let _ = word.wait_for(|said| *said).await;
}
