//! The limits on connections and on TLS handshakes.
//!
//! A connection over `max_connections` replaces the oldest connection that has not sent the HTTP/2 preface. If every
//! connection has sent it, the new connection is closed. A connection over `max_handshakes` waits, so that a burst of
//! clients is served in turn.
//!
//! While a connection waits, the oldest connection without a preface, or the oldest handshake, is revoked when it is
//! older than [`HANDSHAKE_GRACE`]. Therefore clients that connect and send nothing delay other clients by at most that
//! time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until},
};

use super::{connection::Admitted, listener::Connected, tls::Tls};
use crate::{
    log_throttle::LogThrottle,
    telemetry::metrics::{ConnectionMetrics, ConnectionRefusal},
};

/// The age below which a handshake is not revoked. A handshake takes a few round trips, far less than this.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// Admits the connections of all listeners.
pub(super) struct ConnLimit {
    max_connections: usize,
    permits: Arc<Semaphore>,
    /// The connections that have not sent the HTTP/2 preface. The permits bound their number.
    without_preface: Arc<HandshakeLimit>,
    tls: Option<(Tls, Arc<HandshakeLimit>)>,
    refusals: LogThrottle,
    metrics: ConnectionMetrics,
}

impl ConnLimit {
    pub(super) fn new(
        max_connections: usize,
        max_handshakes: usize,
        tls: Option<Tls>,
        metrics: ConnectionMetrics,
    ) -> Self {
        Self {
            max_connections,
            permits: Arc::new(Semaphore::new(max_connections)),
            without_preface: HandshakeLimit::new(usize::MAX),
            tls: tls.map(|tls| (tls, HandshakeLimit::new(max_handshakes))),
            refusals: LogThrottle::default(),
            metrics,
        }
    }

    /// Admits a connection. A TCP connection with TLS waits for a handshake slot. Closes the connection and returns
    /// `None` if `max_connections` connections are open, and all have sent the HTTP/2 preface.
    pub(super) async fn admit(&self, socket: Connected) -> Option<Admitted> {
        let Some(permit) = self.permit().await else {
            self.metrics.refuse(ConnectionRefusal::MaxConnections);
            if let Some(suppressed) = self.refusals.permit() {
                let connections = self.max_connections;
                tracing::warn!(
                    connections,
                    suppressed,
                    "refused a connection: too many connections are open"
                );
            }
            return None;
        };
        let preface = self.without_preface.acquire().await;
        let tls = match (&socket, &self.tls) {
            (Connected::Tcp(_), Some((tls, handshakes))) => Some((tls.clone(), handshakes.acquire().await)),
            _ => None,
        };
        Some(Admitted { socket, permit, preface, tls })
    }

    /// Waits for a permit while a connection without a preface can be revoked. `None` if there is no such connection.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return Some(permit);
            }
            let oldest = self.without_preface.oldest()?;
            tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => return permit.ok(),
                () = sleep_until(oldest + HANDSHAKE_GRACE) => {}
            }
            // A revoked connection releases its permit at once. Otherwise its client has sent the preface meanwhile.
            if self.without_preface.revoke_oldest(oldest) {
                return Arc::clone(&self.permits).acquire_owned().await.ok();
            }
        }
    }
}

/// The limit of concurrent handshakes, or of connections without a preface.
struct HandshakeLimit {
    max: usize,
    slots: Mutex<Slots>,
    released: Notify,
}

#[derive(Default)]
struct Slots {
    next: u64,
    /// The acquired slots by number, so the first is the oldest: the time of each, and the sender whose drop
    /// revokes it.
    acquired: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

impl Slots {
    fn oldest(&self) -> Option<Instant> {
        self.acquired.first_key_value().map(|(_, (since, _))| *since)
    }
}

/// The slot of a handshake, or of a connection without a preface. Released on drop.
pub(super) struct HandshakeSlot {
    number: u64,
    limit: Arc<HandshakeLimit>,
    revoked: oneshot::Receiver<()>,
}

impl HandshakeLimit {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, slots: Mutex::default(), released: Notify::new() })
    }

    /// Waits for a slot, at most until the oldest handshake is [`HANDSHAKE_GRACE`] old.
    async fn acquire(self: &Arc<Self>) -> HandshakeSlot {
        loop {
            let oldest = match self.try_acquire() {
                Ok(slot) => return slot,
                Err(oldest) => oldest,
            };
            tokio::select! {
                () = self.released.notified() => {}
                () = sleep_until(oldest + HANDSHAKE_GRACE) => {
                    self.revoke_oldest(oldest);
                }
            }
        }
    }

    /// Returns a slot. If none is free, returns the time at which the oldest slot was acquired.
    fn try_acquire(self: &Arc<Self>) -> Result<HandshakeSlot, Instant> {
        let mut slots = self.slots();
        if slots.acquired.len() >= self.max
            && let Some(since) = slots.oldest()
        {
            return Err(since);
        }
        let number = slots.next;
        slots.next += 1;
        let (revoke, revoked) = oneshot::channel();
        slots.acquired.insert(number, (Instant::now(), revoke));
        Ok(HandshakeSlot { number, limit: Arc::clone(self), revoked })
    }

    /// The time at which the oldest slot was acquired.
    fn oldest(&self) -> Option<Instant> {
        self.slots().oldest()
    }

    /// Revokes the oldest slot, and returns whether it did. A slot that was acquired after `since` is not revoked,
    /// because the previous one was revoked or released meanwhile.
    fn revoke_oldest(&self, since: Instant) -> bool {
        let mut slots = self.slots();
        let oldest = slots.acquired.first_entry().filter(|oldest| oldest.get().0 == since);
        oldest.map(|oldest| oldest.remove()).is_some()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // A panic cannot leave the map in an inconsistent state.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakeSlot {
    /// Waits until the handshake must end because others wait for its slot.
    pub(super) async fn revoked(&mut self) {
        // The sender sends no value. Its drop ends this wait with an error.
        let _ = (&mut self.revoked).await;
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        self.limit.slots().acquired.remove(&self.number);
        self.limit.released.notify_one();
    }
}

#[cfg(test)]
mod tests;
