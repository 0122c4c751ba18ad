//! Caches the latest states of operations.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use prost::Message;
use tokio::time::Instant;

use crate::{
    name::{NameHasher, OperationName},
    proto::longrunning::Operation,
};

/// The maximum encoded size of a cached operation, in bytes. It limits the memory of the cache.
const MAX_OPERATION_SIZE: usize = 64 * 1024;

/// The maximum number of recorded cancels. It exceeds the usual number of cancels within the upstream timeout,
/// which is the maximum duration of a get.
const MAX_CANCELS: NonZeroUsize = NonZeroUsize::new(1024).expect("is not zero");

/// The limits of the cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// The maximum number of operations. The least recently used operation is evicted. 0 disables the cache.
    pub entries: usize,
    /// The maximum age of a finished operation. A finished operation never changes, but Google deletes it
    /// eventually.
    pub max_age: Duration,
    /// The maximum age of an unfinished operation.
    pub min_interval: Duration,
}

/// The cache of operation states.
pub(super) struct Cache {
    /// `None` when the cache is disabled.
    contents: Option<Mutex<Contents>>,
    limits: CacheLimits,
}

struct Contents {
    states: LruCache<OperationName, Cached, NameHasher>,
    cancels: Cancels,
}

struct Cached {
    operation: Arc<Operation>,
    /// The time at which the request for it was sent to Google.
    sent_at: Instant,
}

/// The times at which operations were last cancelled.
struct Cancels {
    recent: LruCache<OperationName, Instant, NameHasher>,
    /// The latest time that was evicted from `recent`. Any operation may have been cancelled until then.
    evicted: Option<Instant>,
}

impl Cache {
    pub(super) fn new(limits: CacheLimits) -> Self {
        let contents = NonZeroUsize::new(limits.entries).map(|entries| {
            let cancels =
                Cancels { recent: LruCache::with_hasher(MAX_CANCELS, NameHasher::default()), evicted: None };
            Mutex::new(Contents { states: LruCache::with_hasher(entries, NameHasher::default()), cancels })
        });
        Self { contents, limits }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Contents>> {
        self.contents.as_ref().map(|contents| contents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of cached states.
    pub(super) fn len(&self) -> usize {
        self.lock().map_or(0, |contents| contents.states.len())
    }

    /// The state of an operation, unless it is too old.
    pub(super) fn get(&self, name: &OperationName) -> Option<Arc<Operation>> {
        let mut contents = self.lock()?;
        let Cached { operation, sent_at } = contents.states.get(name)?;
        let max_age = if operation.done { self.limits.max_age } else { self.limits.min_interval };
        if sent_at.elapsed() < max_age {
            return Some(Arc::clone(operation));
        }
        contents.states.pop(name);
        None
    }

    /// Caches Google's response to a request that was sent at `sent_at`. An unfinished state is not cached if the
    /// operation may have been cancelled since.
    pub(super) fn insert(&self, name: &OperationName, operation: &Arc<Operation>, sent_at: Instant) {
        if operation.encoded_len() > MAX_OPERATION_SIZE {
            return;
        }
        let Some(mut contents) = self.lock() else { return };
        let is_outdated = !operation.done && contents.cancels.any_since(sent_at, name);
        // Responses may arrive out of order. A finished state keeps its age.
        let is_better = |cached: &Cached| cached.operation.done || cached.sent_at > sent_at;
        if !is_outdated && !contents.states.peek(name).is_some_and(is_better) {
            contents.states.put(name.clone(), Cached { operation: Arc::clone(operation), sent_at });
        }
    }

    /// Records that a cancel of an operation has completed. Removes its unfinished state. Responses to requests
    /// that were sent earlier are then outdated.
    pub(super) fn record_cancel(&self, name: &OperationName) {
        let Some(mut contents) = self.lock() else { return };
        contents.cancels.record(name);
        if contents.states.peek(name).is_some_and(|cached| !cached.operation.done) {
            contents.states.pop(name);
        }
    }
}

impl Cancels {
    fn record(&mut self, name: &OperationName) {
        // Records are in chronological order, because the caller holds the lock of the cache.
        let now = Instant::now();
        if let Some(cancelled) = self.recent.get_mut(name) {
            *cancelled = now;
        } else if let Some((_, cancelled)) = self.recent.push(name.clone(), now) {
            self.evicted = Some(cancelled);
        }
    }

    /// Whether the operation may have been cancelled at `sent_at` or later.
    fn any_since(&self, sent_at: Instant, name: &OperationName) -> bool {
        self.evicted.is_some_and(|evicted| sent_at <= evicted)
            || self.recent.peek(name).is_some_and(|cancelled| sent_at <= *cancelled)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, advance};

    use super::{Cache, CacheLimits, MAX_CANCELS};
    use crate::{name::OperationName, proto::longrunning::Operation};

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: CacheLimits =
        CacheLimits { entries: 2, max_age: Duration::from_secs(3600), min_interval: SECOND };

    fn name(id: usize) -> OperationName {
        OperationName::parse(&format!("enterprises/e/devices/d/operations/{id}")).expect("valid")
    }

    fn state(done: bool) -> Arc<Operation> {
        Arc::new(Operation { done, ..Operation::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_finished_operation_is_cached_longer_than_an_unfinished_one() {
        let cache = Cache::new(LIMITS);
        cache.insert(&name(1), &state(false), Instant::now());
        cache.insert(&name(2), &state(true), Instant::now());
        advance(SECOND / 2).await;
        assert!(cache.get(&name(1)).is_some());
        advance(SECOND / 2).await;
        assert!(cache.get(&name(1)).is_none());
        assert!(cache.get(&name(2)).is_some());
        advance(3600 * SECOND).await;
        assert!(cache.get(&name(2)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_removes_the_state_of_an_unfinished_operation() {
        let cache = Cache::new(LIMITS);
        cache.insert(&name(1), &state(false), Instant::now());
        cache.insert(&name(2), &state(true), Instant::now());
        cache.record_cancel(&name(1));
        cache.record_cancel(&name(2));
        assert!(cache.get(&name(1)).is_none());
        assert!(cache.get(&name(2)).is_some(), "a finished operation never changes");
        let before_the_cancel = Instant::now();
        advance(SECOND / 4).await;
        cache.record_cancel(&name(1));
        cache.insert(&name(1), &state(false), before_the_cancel);
        assert!(cache.get(&name(1)).is_none(), "the request was sent before the cancel");
        cache.insert(&name(1), &state(true), before_the_cancel);
        assert!(cache.get(&name(1)).is_some(), "a finished operation is cached nevertheless");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_does_not_affect_a_get_in_flight_of_another_operation() {
        let cache = Cache::new(LIMITS);
        let sent_at = Instant::now();
        advance(SECOND / 4).await;
        cache.record_cancel(&name(1));
        cache.insert(&name(1), &state(false), sent_at);
        cache.insert(&name(2), &state(false), sent_at);
        assert!(cache.get(&name(1)).is_none());
        assert!(cache.get(&name(2)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_response_does_not_replace_a_newer_one() {
        let cache = Cache::new(LIMITS);
        let early = Instant::now();
        advance(SECOND / 4).await;
        cache.insert(&name(1), &state(true), Instant::now());
        cache.insert(&name(1), &state(false), early);
        assert!(cache.get(&name(1)).expect("cached").done);
    }

    #[tokio::test(start_paused = true)]
    async fn the_size_is_limited() {
        let cache = Cache::new(LIMITS);
        for id in 1..=3 {
            cache.insert(&name(id), &state(true), Instant::now());
        }
        assert!(cache.get(&name(1)).is_none());
        assert!(cache.get(&name(2)).is_some() && cache.get(&name(3)).is_some());
        let large = Arc::new(Operation { name: "x".repeat(100_000), done: true, ..Operation::default() });
        cache.insert(&name(4), &large, Instant::now());
        assert!(cache.get(&name(4)).is_none());
        let off = Cache::new(CacheLimits { entries: 0, ..LIMITS });
        off.insert(&name(1), &state(true), Instant::now());
        assert!(off.get(&name(1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_cancel_makes_earlier_requests_for_any_operation_outdated() {
        let cache = Cache::new(LIMITS);
        let before_cancel = Instant::now();
        cache.record_cancel(&name(0));
        advance(SECOND / 4).await;
        let after_cancel = Instant::now();
        advance(SECOND / 4).await;
        // A second cancel of an operation replaces the first record.
        cache.record_cancel(&name(1));
        (1..MAX_CANCELS.get()).for_each(|id| cache.record_cancel(&name(id)));
        cache.insert(&name(9999), &state(false), before_cancel);
        assert!(cache.get(&name(9999)).is_some(), "all cancels are recorded");
        cache.record_cancel(&name(MAX_CANCELS.get()));
        cache.insert(&name(0), &state(false), before_cancel);
        cache.insert(&name(8888), &state(false), before_cancel);
        assert!(cache.get(&name(0)).is_none() && cache.get(&name(8888)).is_none());
        cache.insert(&name(0), &state(false), after_cancel);
        cache.insert(&name(1), &state(false), after_cancel);
        assert!(cache.get(&name(0)).is_some(), "the request was sent after the evicted cancel");
        assert!(cache.get(&name(1)).is_none());
    }
}
