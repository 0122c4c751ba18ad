//! Who is let in: a bounded number of connections, and of handshakes among them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{connection::Admitted, handshakes::Handshakes, listener::Connected, seldom::Seldom, tls::Tls};

/// What every listener asks before it hands a connection on.
pub(super) struct Door {
    places: Arc<Semaphore>,
    tls: Option<(Tls, Arc<Handshakes>)>,
    refusals: Seldom,
}

impl Door {
    pub(super) fn new(max_connections: usize, max_handshakes: usize, tls: Option<Tls>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max_connections)),
            tls: tls.map(|tls| (tls, Handshakes::new(max_handshakes))),
            refusals: Seldom::default(),
        }
    }

    /// Lets a connection in, after a wait for a handshake's place where TLS is spoken; `None` when there are
    /// too many connections, and then this one is closed. TLS is for TCP alone.
    pub(super) async fn admit(&self, socket: Connected) -> Option<Admitted> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            if let Some(kept_back) = self.refusals.turn() {
                tracing::warn!(kept_back, "a connection was refused: there are max_connections already");
            }
            return None;
        };
        let tls = match (&socket, &self.tls) {
            (Connected::Tcp(_), Some((tls, handshakes))) => Some((tls.clone(), handshakes.begin().await)),
            _ => None,
        };
        Some(Admitted { socket, place, tls })
    }
}
