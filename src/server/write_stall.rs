//! Responses that are being written: how long one connection may leave them unread.
//!
//! A response holds its permit until its last byte is written. A client that keeps its flow-control window at zero, and
//! goes on answering pings, could hold any number of permits forever; neither hyper nor h2 has a bound for that. One
//! stream cannot be ended from here, so the connection is closed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The bytes of a response that a caller must take to be given the time anew: HTTP/2's initial window (RFC 9113,
/// section 6.9.2). With a smaller number, one byte now and then would hold a permit for hours.
const PROGRESS: usize = 65_535;

/// The responses of one connection that have not been written yet.
pub(super) struct WriteStalls {
    limit: Duration,
    unwritten: Mutex<Starts>,
    started: Notify,
}

#[derive(Default)]
struct Starts {
    /// When the writing of each response started. Numbers rise with time, so that the first is the oldest.
    since: BTreeMap<u64, Instant>,
    next: u64,
    /// Whether [`WriteStalls::exceeded`] has a timer for the oldest.
    has_timer: bool,
}

impl WriteStalls {
    /// Every response has `limit` to be written.
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { limit, unwritten: Mutex::default(), started: Notify::new() })
    }

    /// Waits until a response has not been written for the limit. For one waiter at a time.
    pub(super) async fn exceeded(&self) {
        loop {
            match self.oldest() {
                // One timer for each limit's time, however many responses start and end meanwhile.
                Some(since) if since.elapsed() < self.limit => sleep_until(since + self.limit).await,
                Some(_) => return,
                None => self.started.notified().await,
            }
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let mut starts = self.lock();
        let oldest = starts.since.first_key_value().map(|(_, since)| *since);
        starts.has_timer = oldest.is_some();
        oldest
    }

    /// The writing of a response starts.
    pub(super) fn start(self: &Arc<Self>) -> Unwritten {
        Unwritten { number: self.begin(), taken: 0, stalls: Arc::clone(self) }
    }

    fn begin(&self) -> u64 {
        let mut starts = self.lock();
        let number = starts.next;
        starts.next += 1;
        starts.since.insert(number, Instant::now());
        let had_timer = std::mem::replace(&mut starts.has_timer, true);
        drop(starts);
        if !had_timer {
            self.started.notify_one();
        }
        number
    }

    fn end(&self, number: u64) {
        self.lock().since.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Starts> {
        // Every change is one step.
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response that is being written, until this is dropped.
pub(super) struct Unwritten {
    number: u64,
    taken: usize,
    stalls: Arc<WriteStalls>,
}

impl Unwritten {
    /// The caller has taken `count` bytes, and there are more.
    pub(super) fn progress(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= PROGRESS {
            self.taken = 0;
            self.stalls.end(self.number);
            self.number = self.stalls.begin();
        }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.stalls.end(self.number);
    }
}

#[cfg(test)]
mod tests;
