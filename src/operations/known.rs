//! What is known of operations without asking Google again.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use prost::Message;
use tokio::time::Instant;

use crate::{name::OperationName, proto::longrunning::Operation};

/// An operation that takes more room than this, in bytes, is not kept: it would take that of many.
const MAX_SIZE: usize = 64 * 1024;

/// What is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many operations are kept; the ones that were asked for least recently go first.
    pub entries: usize,
    /// How long a finished operation is kept. It never changes, but Google forgets it one day.
    pub max_age: Duration,
    /// How old the state of an unfinished operation may be.
    pub min_interval: Duration,
}

/// The latest states, within limits.
pub(super) struct Known {
    inner: Option<Mutex<Inner>>,
    limits: Limits,
}

struct Inner {
    states: LruCache<OperationName, State>,
    /// When the latest cancel came back, of whichever operation: states of unfinished ones that were asked
    /// for before it are not kept. That spares a record of each cancel, at the price of a query now and then.
    cancelled: Option<Instant>,
}

struct State {
    operation: Arc<Operation>,
    asked: Instant,
}

impl Known {
    pub(super) fn new(limits: Limits) -> Self {
        let inner = NonZeroUsize::new(limits.entries)
            .map(|entries| Mutex::new(Inner { states: LruCache::new(entries), cancelled: None }));
        Self { inner, limits }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Inner>> {
        self.inner.as_ref().map(|inner| inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state that is still good to answer with.
    pub(super) fn fresh(&self, name: &OperationName) -> Option<Arc<Operation>> {
        let mut inner = self.lock()?;
        let State { operation, asked } = inner.states.get(name)?;
        let good = if operation.done { self.limits.max_age } else { self.limits.min_interval };
        if asked.elapsed() < good {
            return Some(Arc::clone(operation));
        }
        inner.states.pop(name);
        None
    }

    /// Keeps what Google answered to a question of `asked`.
    pub(super) fn keep(&self, name: &OperationName, operation: &Arc<Operation>, asked: Instant) {
        if operation.encoded_len() > MAX_SIZE {
            return;
        }
        let Some(mut inner) = self.lock() else { return };
        let is_void = !operation.done && inner.cancelled.is_some_and(|cancelled| asked <= cancelled);
        // What was asked earlier may arrive later; and what is final is not made younger by being seen again.
        let knows_better = |state: &State| state.operation.done || state.asked > asked;
        if !is_void && !inner.states.peek(name).is_some_and(knows_better) {
            inner.states.put(name.clone(), State { operation: Arc::clone(operation), asked });
        }
    }

    /// A cancel came back: makes void what was asked of an unfinished operation up to now.
    pub(super) fn forget(&self, name: &OperationName) {
        let Some(mut inner) = self.lock() else { return };
        inner.cancelled = Some(Instant::now());
        if inner.states.peek(name).is_some_and(|state| !state.operation.done) {
            inner.states.pop(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, advance};

    use super::{Known, Limits};
    use crate::{name::OperationName, proto::longrunning::Operation};

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits { entries: 2, max_age: Duration::from_secs(3600), min_interval: SECOND };

    fn name(id: usize) -> OperationName {
        OperationName::parse(&format!("enterprises/e/devices/d/operations/{id}")).expect("valid")
    }

    fn state(done: bool) -> Arc<Operation> {
        Arc::new(Operation { done, ..Operation::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_finished_operation_is_known_longer_than_an_unfinished_one() {
        let known = Known::new(LIMITS);
        known.keep(&name(1), &state(false), Instant::now());
        known.keep(&name(2), &state(true), Instant::now());
        advance(SECOND / 2).await;
        assert!(known.fresh(&name(1)).is_some());
        advance(SECOND / 2).await;
        assert!(known.fresh(&name(1)).is_none());
        assert!(known.fresh(&name(2)).is_some());
        advance(3600 * SECOND).await;
        assert!(known.fresh(&name(2)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_makes_the_state_of_an_unfinished_operation_unknown() {
        let known = Known::new(LIMITS);
        known.keep(&name(1), &state(false), Instant::now());
        known.keep(&name(2), &state(true), Instant::now());
        known.forget(&name(1));
        known.forget(&name(2));
        assert!(known.fresh(&name(1)).is_none());
        assert!(known.fresh(&name(2)).is_some(), "a finished one never changes");
        let before_the_cancel = Instant::now();
        advance(SECOND / 4).await;
        known.forget(&name(1));
        known.keep(&name(1), &state(false), before_the_cancel);
        assert!(known.fresh(&name(1)).is_none(), "what was asked before the cancel does not count");
        known.keep(&name(1), &state(true), before_the_cancel);
        assert!(known.fresh(&name(1)).is_some(), "but what is final does");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_late_does_not_replace_a_newer_one() {
        let known = Known::new(LIMITS);
        let early = Instant::now();
        advance(SECOND / 4).await;
        known.keep(&name(1), &state(true), Instant::now());
        known.keep(&name(1), &state(false), early);
        assert!(known.fresh(&name(1)).expect("known").done);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_allowed() {
        let known = Known::new(LIMITS);
        for id in 1..=3 {
            known.keep(&name(id), &state(true), Instant::now());
        }
        assert!(known.fresh(&name(1)).is_none());
        assert!(known.fresh(&name(2)).is_some() && known.fresh(&name(3)).is_some());
        let large = Arc::new(Operation { name: "x".repeat(100_000), done: true, ..Operation::default() });
        known.keep(&name(4), &large, Instant::now());
        assert!(known.fresh(&name(4)).is_none());
        let nothing = Known::new(Limits { entries: 0, ..LIMITS });
        nothing.keep(&name(1), &state(true), Instant::now());
        assert!(nothing.fresh(&name(1)).is_none());
    }
}
