//! The limits on connections and on TLS handshakes.
//!
//! A connection over `max_connections` replaces the oldest connection that has not sent the HTTP/2 preface. If every
//! connection has sent it, the new connection is closed. Both happen at once, so clients that connect and send nothing
//! do not stop a listener.
//!
//! A connection over `max_handshakes` waits, so that a burst of clients is served in turn. While it waits, the oldest
//! handshake is revoked when it is older than [`HANDSHAKE_GRACE`]. Therefore at least `max_handshakes` handshakes start
//! in each such time, even if no client answers.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use futures_util::poll;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    task::unconstrained,
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
    without_preface: Arc<RevocableSlots>,
    tls: Option<(Tls, Arc<RevocableSlots>)>,
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
            without_preface: RevocableSlots::new(usize::MAX),
            tls: tls.map(|tls| (tls, RevocableSlots::new(max_handshakes))),
            refusals: LogThrottle::default(),
            metrics,
        }
    }

    /// Admits a connection. A TCP connection with TLS waits for a handshake slot. Closes the connection and returns
    /// `None` if `max_connections` connections are open, and all have sent the HTTP/2 preface.
    pub(super) async fn admit(&self, socket: Connected) -> Option<Admitted> {
        // This wait is first, because a connection that waits here could not notice that it is revoked.
        let tls = match (&socket, &self.tls) {
            (Connected::Tcp(_), Some((tls, handshakes))) => Some((tls.clone(), handshakes.acquire().await)),
            _ => None,
        };
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
        Some(Admitted { socket, permit, preface, tls })
    }

    /// Returns a free permit, or that of the oldest connection without a preface, after its close. `None` if every
    /// connection has sent the preface.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut permit = pin!(unconstrained(Arc::clone(&self.permits).acquire_owned()));
        // The first poll joins the queue. Otherwise another listener could get the permit of the revoked connection.
        if let Poll::Ready(permit) = poll!(&mut permit) {
            return permit.ok();
        }
        if !self.without_preface.revoke_oldest(Instant::now()) {
            return None;
        }
        // The task of the revoked connection closes it when it runs next. It waits for nothing else.
        permit.await.ok()
    }
}

/// The slots of handshakes, or of connections without a preface.
struct RevocableSlots {
    max: usize,
    acquired: Mutex<AcquiredSlots>,
    released: Notify,
}

#[derive(Default)]
struct AcquiredSlots {
    next: u64,
    /// The slots by number, so the first is the oldest: the time of each, and the sender whose drop revokes it.
    by_number: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// The slot of a handshake, or of a connection without a preface. Released on drop.
pub(super) struct RevocableSlot {
    number: u64,
    slots: Arc<RevocableSlots>,
    revoked: oneshot::Receiver<()>,
}

impl RevocableSlots {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, acquired: Mutex::default(), released: Notify::new() })
    }

    /// Waits for a slot, at most until the oldest handshake is [`HANDSHAKE_GRACE`] old.
    async fn acquire(self: &Arc<Self>) -> RevocableSlot {
        loop {
            let oldest = match self.try_acquire() {
                Ok(slot) => return slot,
                Err(oldest) => oldest,
            };
            tokio::select! {
                () = self.released.notified() => {}
                () = sleep_until(oldest + HANDSHAKE_GRACE) => {
                    // This has no effect if that slot was revoked or released meanwhile.
                    self.revoke_oldest(oldest);
                }
            }
        }
    }

    /// Returns a slot. If none is free, returns the time at which the oldest slot was acquired.
    fn try_acquire(self: &Arc<Self>) -> Result<RevocableSlot, Instant> {
        let mut acquired = self.acquired();
        if acquired.by_number.len() >= self.max
            && let Some((_, (since, _))) = acquired.by_number.first_key_value()
        {
            return Err(*since);
        }
        let number = acquired.next;
        acquired.next += 1;
        let (revoke, revoked) = oneshot::channel();
        acquired.by_number.insert(number, (Instant::now(), revoke));
        Ok(RevocableSlot { number, slots: Arc::clone(self), revoked })
    }

    /// Revokes the oldest slot, and returns whether it did. A slot that was acquired after `since` is not revoked.
    fn revoke_oldest(&self, since: Instant) -> bool {
        let mut acquired = self.acquired();
        let oldest = acquired.by_number.first_entry().filter(|oldest| oldest.get().0 <= since);
        oldest.map(|oldest| oldest.remove()).is_some()
    }

    fn acquired(&self) -> MutexGuard<'_, AcquiredSlots> {
        // A panic cannot leave the map in an inconsistent state.
        self.acquired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RevocableSlot {
    /// Waits until the slot is revoked. Its holder must then end.
    pub(super) async fn revoked(&mut self) {
        // The sender sends no value. Its drop ends this wait with an error.
        let _ = (&mut self.revoked).await;
    }

    /// Releases the slot. Returns false if it was revoked before.
    #[must_use]
    pub(super) fn release(self) -> bool {
        self.remove()
    }

    fn remove(&self) -> bool {
        self.slots.acquired().by_number.remove(&self.number).is_some()
    }
}

impl Drop for RevocableSlot {
    fn drop(&mut self) {
        self.remove();
        self.slots.released.notify_one();
    }
}

#[cfg(test)]
mod tests;
