//! What serves gRPC: sockets, connections, and the services behind them.
//!
//! A call enters in [`listener`], its connection is driven in [`connection`], [`routes`] finds its service,
//! and for the five RPCs it passes the [`layers`],
//! which know by [`identity`] who calls.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{config, operations::Operations};

mod connection;
pub mod health;
pub mod identity;
mod layers;
pub mod listener;
pub mod peer;
pub mod reflection;
mod routes;
pub mod until_drain;

use crate::serving::Serving;
use identity::Identities;
use listener::Listener;
use routes::Routes;

/// The longest time for which new connections are still taken after a drain began, so that those who
/// balance load have seen NOT_SERVING before they are refused.
const GRACE: Duration = Duration::from_secs(1);

/// How long connections without a call may take to close after the last call ended: a peer that does not
/// answer must not hold the process (hyper #4170).
const CLOSING: Duration = Duration::from_millis(500);

/// The gRPC server, bound and not yet serving.
pub struct Server {
    listeners: Vec<Listener>,
    routes: Routes,
    calls: TaskTracker,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Whole,
    /// The time was over with this many calls still in flight.
    Cut {
        /// Calls that got no answer.
        calls: usize,
    },
}

impl Server {
    /// Binds every address.
    ///
    /// # Errors
    ///
    /// An address cannot be had; the text names it.
    pub async fn bind(
        config: &config::Server,
        operations: Operations,
        identities: Arc<Identities>,
        serving: watch::Receiver<Serving>,
    ) -> io::Result<Self> {
        let mut listeners = Vec::with_capacity(config.listen.len());
        for address in &config.listen {
            listeners.push(Listener::bind(address).await?);
        }
        let calls = TaskTracker::new();
        let limits = layers::Limits {
            places: Arc::new(Semaphore::new(config.max_concurrent_calls)),
            calls: calls.clone(),
        };
        Ok(Self { listeners, routes: Routes::new(operations, identities, limits, serving), calls })
    }

    /// The addresses that are listened on, with the ports that were found.
    #[must_use]
    pub fn addresses(&self) -> Vec<config::ListenAddress> {
        self.listeners.iter().map(|listener| listener.address().clone()).collect()
    }

    /// Serves until `drain` says so, then takes no new connection after a short grace, answers the calls
    /// in flight, and ends: at the latest after `drain_timeout`.
    pub async fn serve(self, mut drain: watch::Receiver<bool>, drain_timeout: Duration) -> Drained {
        let Self { listeners, routes, calls } = self;
        let (stop_accepting, stopped) = watch::channel(false);
        let (end, ending) = watch::channel(false);
        let connections = TaskTracker::new();
        let routes = Arc::new(routes);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (routes, connections, ending) = (Arc::clone(&routes), connections.clone(), ending.clone());
            accepting.spawn(listener.accept(stopped.clone(), move |socket| {
                connections.spawn(connection::serve(socket, Arc::clone(&routes), ending.clone()));
            }));
        }
        told(&mut drain).await;

        let drained = timeout(drain_timeout, async {
            tokio::time::sleep(GRACE.min(drain_timeout / 4)).await;
            stop_accepting.send_replace(true);
            while accepting.join_next().await.is_some() {}
            end.send_replace(true);
            connections.close();
            calls.close();
            calls.wait().await;
            // Whoever has not closed by now is idle: its connection ends with the process.
            let _ = timeout(CLOSING, connections.wait()).await;
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
