//! The spans that wait for their export.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::Lost;
use crate::proto::otlp::trace::Span;

/// A bounded queue. A push never waits: further spans are lost.
pub(super) struct Queue {
    spans: Mutex<VecDeque<Span>>,
    max_queued: usize,
    batch: usize,
    /// Notified when the queue holds a full batch.
    pub(super) batch_is_full: Notify,
    pub(super) lost: Lost,
}

impl Queue {
    /// A queue of `max_queued` spans, which are exported in batches of at most `batch` spans.
    pub(super) fn new(max_queued: usize, batch: usize) -> Self {
        let (spans, batch_is_full, lost) = (Mutex::default(), Notify::new(), Lost::default());
        Self { spans, max_queued, batch, batch_is_full, lost }
    }

    pub(super) fn push(&self, span: Span) {
        let mut spans = self.lock();
        if spans.len() >= self.max_queued {
            drop(spans);
            return self.lost.add(1);
        }
        spans.push_back(span);
        let is_full = spans.len() == self.batch;
        drop(spans);
        if is_full {
            self.batch_is_full.notify_one();
        }
    }

    /// Removes the oldest spans, at most one batch.
    pub(super) fn take_batch(&self) -> Vec<Span> {
        let mut spans = self.lock();
        let batch = spans.len().min(self.batch);
        spans.drain(..batch).collect()
    }

    /// Removes all spans, and returns the number of spans that are lost.
    pub(super) fn close(&self) -> u64 {
        let left = std::mem::take(&mut *self.lock()).len();
        self.lost.add(u64::try_from(left).unwrap_or(u64::MAX));
        self.lost.take()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Span>> {
        // A panic cannot leave the queue in an inconsistent state.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::proto::otlp::trace::Span;

    #[test]
    fn spans_beyond_the_limit_are_lost_and_counted() {
        let queue = Queue::new(3, 2);
        for start in 0..5 {
            queue.push(Span { start_time_unix_nano: start, ..Span::default() });
        }
        let starts =
            |batch: Vec<Span>| batch.iter().map(|span| span.start_time_unix_nano).collect::<Vec<_>>();
        assert_eq!(starts(queue.take_batch()), [0, 1]);
        assert_eq!(queue.lost.take(), 2);
        assert_eq!(queue.close(), 1, "the span that is left");
        assert!(queue.take_batch().is_empty());
    }
}
