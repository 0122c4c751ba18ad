//! The TLS handshakes that are under way: a bounded number, and none that holds up the others for long.
//!
//! While all places are taken, new connections wait in the sockets' backlogs, so that a crowd that connects
//! at once is served place by place rather than turned away. But a handshake that is older than
//! [`PATIENCE`] gives way to whoever waits: those who only open connections and say nothing take no more than
//! that from the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

/// How long a handshake cannot be made to give way: far more than its few round trips take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The places for handshakes.
pub(super) struct Handshakes {
    most: usize,
    under_way: Mutex<UnderWay>,
    ended: Notify,
}

/// By their number, so that the first is the oldest.
#[derive(Default)]
struct UnderWay {
    next: u64,
    places: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// A place. It is free again when this is dropped.
pub(super) struct Handshake {
    number: u64,
    all: Arc<Handshakes>,
    gives_way: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, under_way: Mutex::default(), ended: Notify::new() })
    }

    /// Waits for a place: at most until the oldest handshake has run out of patience.
    pub(super) async fn begin(self: &Arc<Self>) -> Handshake {
        loop {
            let oldest = match self.try_begin() {
                Ok(handshake) => return handshake,
                Err(oldest) => oldest,
            };
            tokio::select! {
                () = self.ended.notified() => {}
                () = sleep_until(oldest + PATIENCE) => self.end_oldest(oldest),
            }
        }
    }

    /// A place; else since when the oldest is taken.
    fn try_begin(self: &Arc<Self>) -> Result<Handshake, Instant> {
        let mut under_way = self.under_way();
        if under_way.places.len() >= self.most
            && let Some((_, (since, _))) = under_way.places.first_key_value()
        {
            return Err(*since);
        }
        let number = under_way.next;
        under_way.next += 1;
        let (give_way, gives_way) = oneshot::channel();
        under_way.places.insert(number, (Instant::now(), give_way));
        Ok(Handshake { number, all: Arc::clone(self), gives_way })
    }

    /// Makes the oldest give way, unless it is no longer the one that began at `since`.
    fn end_oldest(&self, since: Instant) {
        let mut under_way = self.under_way();
        if let Some(oldest) = under_way.places.first_entry()
            && oldest.get().0 == since
        {
            oldest.remove();
        }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        // Nothing in here can leave it half changed.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake {
    /// Waits until it must give way.
    pub(super) async fn gives_way(&mut self) {
        // An error is what its sender's end looks like, and that is the sign.
        let _ = (&mut self.gives_way).await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.under_way().places.remove(&self.number);
        self.all.ended.notify_one();
    }
}

#[cfg(test)]
mod tests;
