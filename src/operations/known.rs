//! What is known of operations without asking Google again.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
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
    states: Option<Mutex<LruCache<OperationName, State>>>,
    limits: Limits,
}

struct State {
    /// None once a cancel has made it void, at the time of `asked`.
    operation: Option<Arc<Operation>>,
    asked: Instant,
}

impl State {
    fn is_final(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| operation.done)
    }
}

impl Known {
    pub(super) fn new(limits: Limits) -> Self {
        let entries = NonZeroUsize::new(limits.entries);
        Self { states: entries.map(|entries| Mutex::new(LruCache::new(entries))), limits }
    }

    /// The state that is still good to answer with.
    pub(super) fn fresh(&self, name: &OperationName) -> Option<Arc<Operation>> {
        let mut states = self.states.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.get(name)?;
        let good = if state.is_final() { self.limits.max_age } else { self.limits.min_interval };
        let is_fresh = state.asked.elapsed() < good;
        state.operation.clone().filter(|_| is_fresh)
    }

    /// Keeps what Google answered to a question of `asked`.
    pub(super) fn keep(&self, name: &OperationName, operation: &Arc<Operation>, asked: Instant) {
        let Some(states) = &self.states else { return };
        if operation.encoded_len() > MAX_SIZE {
            return;
        }
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        // What was asked earlier may arrive later, and after a cancel it no longer counts. What is final
        // counts whenever it comes, and is not grown younger by being seen again in a list.
        let outdated = |state: &State| state.is_final() || (state.asked > asked && !operation.done);
        if states
            .peek(name)
            .is_some_and(|state| outdated(state) && state.asked.elapsed() < self.limits.max_age)
        {
            return;
        }
        states.put(name.clone(), State { operation: Some(Arc::clone(operation)), asked });
    }

    /// Makes void what was asked of an unfinished operation up to now; `asking` says whether answers to such
    /// questions may still come.
    pub(super) fn forget(&self, name: &OperationName, asking: bool) {
        let Some(states) = &self.states else { return };
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        let void = states.peek(name).map_or(asking, |state| !state.is_final());
        if void {
            states.put(name.clone(), State { operation: None, asked: Instant::now() });
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
        known.forget(&name(1), false);
        known.forget(&name(2), false);
        assert!(known.fresh(&name(1)).is_none());
        assert!(known.fresh(&name(2)).is_some(), "a finished one never changes");
        let before_the_cancel = Instant::now();
        advance(SECOND / 4).await;
        known.forget(&name(1), true);
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
