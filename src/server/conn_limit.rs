//! The limits on connections and on TLS handshakes.
//!
//! A connection over `max_connections` is closed. A connection over `max_handshakes` waits, so that a burst of
//! clients is served in turn.
//!
//! While a connection waits, the oldest handshake is revoked when it is older than [`HANDSHAKE_GRACE`]. Therefore
//! clients that connect and send nothing delay other clients by at most that time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, sleep_until},
};

use super::{connection::Admitted, listener::Connected, tls::Tls};
use crate::log_throttle::LogThrottle;

/// The age below which a handshake is not revoked. A handshake takes a few round trips, far less than this.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// Admits the connections of all listeners.
pub(super) struct ConnLimit {
    permits: Arc<Semaphore>,
    tls: Option<(Tls, Arc<HandshakeLimit>)>,
    refusals: LogThrottle,
}

impl ConnLimit {
    pub(super) fn new(max_connections: usize, max_handshakes: usize, tls: Option<Tls>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_connections)),
            tls: tls.map(|tls| (tls, HandshakeLimit::new(max_handshakes))),
            refusals: LogThrottle::default(),
        }
    }

    /// Admits a connection. A TCP connection with TLS waits for a handshake slot. Closes the connection and returns
    /// `None` if `max_connections` connections are open.
    pub(super) async fn admit(&self, socket: Connected) -> Option<Admitted> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            if let Some(suppressed) = self.refusals.permit() {
                tracing::warn!(suppressed, "refused a connection: max_connections connections are open");
            }
            return None;
        };
        let tls = match (&socket, &self.tls) {
            (Connected::Tcp(_), Some((tls, handshakes))) => Some((tls.clone(), handshakes.acquire().await)),
            _ => None,
        };
        Some(Admitted { socket, permit, tls })
    }
}

/// The limit of concurrent handshakes.
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

/// The slot of a handshake, released on drop.
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
                () = sleep_until(oldest + HANDSHAKE_GRACE) => self.revoke_oldest(oldest),
            }
        }
    }

    /// Returns a slot. If none is free, returns the time at which the oldest slot was acquired.
    fn try_acquire(self: &Arc<Self>) -> Result<HandshakeSlot, Instant> {
        let mut slots = self.slots();
        if slots.acquired.len() >= self.max
            && let Some((_, (since, _))) = slots.acquired.first_key_value()
        {
            return Err(*since);
        }
        let number = slots.next;
        slots.next += 1;
        let (revoke, revoked) = oneshot::channel();
        slots.acquired.insert(number, (Instant::now(), revoke));
        Ok(HandshakeSlot { number, limit: Arc::clone(self), revoked })
    }

    /// Revokes the oldest slot, unless it was acquired after `since` because another waiter has revoked the
    /// previous one.
    fn revoke_oldest(&self, since: Instant) {
        let mut slots = self.slots();
        if let Some(oldest) = slots.acquired.first_entry()
            && oldest.get().0 == since
        {
            oldest.remove();
        }
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
