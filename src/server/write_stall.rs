//! Limits the time for which a connection may leave responses unread.
//!
//! A response holds its permit until its last byte is written. A client that keeps its flow-control window at zero
//! and replies to pings could hold its permits forever, because neither hyper nor h2 has a timeout for writes.
//! hyper has no API to end one stream, so the connection is closed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The number of bytes that a caller must read to restart the timer: HTTP/2's initial window (RFC 9113, section
/// 6.9.2). With a smaller number, a caller could hold a permit for hours by reading single bytes.
const MIN_PROGRESS: usize = 65_535;

/// The responses of one connection that are being written.
pub(super) struct WriteStalls {
    limit: Duration,
    pending: Mutex<Pending>,
    started: Notify,
}

#[derive(Default)]
struct Pending {
    /// The time at which writing each response started. The keys increase with time, so the first entry is the
    /// oldest.
    since: BTreeMap<u64, Instant>,
    next: u64,
    /// Whether [`WriteStalls::exceeded`] has a timer for the oldest response.
    has_timer: bool,
}

impl WriteStalls {
    /// Limits the time for writing a response to `limit`.
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { limit, pending: Mutex::default(), started: Notify::new() })
    }

    /// Waits until a response has exceeded the limit. Supports one waiter at a time.
    pub(super) async fn exceeded(&self) {
        loop {
            match self.oldest() {
                // One timer per limit, for any number of responses that start and end in that time.
                Some(since) if since.elapsed() < self.limit => sleep_until(since + self.limit).await,
                Some(_) => return,
                None => self.started.notified().await,
            }
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let mut pending = self.lock();
        let oldest = pending.since.first_key_value().map(|(_, since)| *since);
        pending.has_timer = oldest.is_some();
        oldest
    }

    /// Starts the timer of a response.
    pub(super) fn start(self: &Arc<Self>) -> PendingResponse {
        PendingResponse { number: self.add(), read: 0, stalls: Arc::clone(self) }
    }

    fn add(&self) -> u64 {
        let mut pending = self.lock();
        let number = pending.next;
        pending.next += 1;
        pending.since.insert(number, Instant::now());
        let had_timer = std::mem::replace(&mut pending.has_timer, true);
        drop(pending);
        if !had_timer {
            self.started.notify_one();
        }
        number
    }

    fn remove(&self, number: u64) {
        self.lock().since.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // A panic cannot leave the map in an inconsistent state.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response that is being written. Its drop ends the timer.
pub(super) struct PendingResponse {
    number: u64,
    read: usize,
    stalls: Arc<WriteStalls>,
}

impl PendingResponse {
    /// Records that the caller has read `count` bytes, and that more bytes remain.
    pub(super) fn progress(&mut self, count: usize) {
        self.read += count;
        if self.read >= MIN_PROGRESS {
            self.read = 0;
            self.stalls.remove(self.number);
            self.number = self.stalls.add();
        }
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        self.stalls.remove(self.number);
    }
}

#[cfg(test)]
mod tests;
