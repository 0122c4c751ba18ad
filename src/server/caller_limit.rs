//! Limits the concurrent calls of one caller, so that one client cannot take all permits.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

use crate::{
    caller::{Caller, Identity},
    log_throttle::LogThrottle,
    telemetry::traces::Trace,
};

/// The calls in flight of each caller that a certificate, a token or a mesh proxy identifies. Many clients can share
/// the identity `anonymous` or one unix user, so these callers have no limit of their own.
pub(super) struct CallerLimit {
    max: AtomicUsize,
    in_flight: Mutex<HashMap<ByIdentity, usize, RandomState>>,
    refusals: LogThrottle,
}

/// A call of a caller, counted until it is dropped.
pub(super) struct CallerSlot {
    limit: Arc<CallerLimit>,
    caller: ByIdentity,
}

/// The caller has the maximum number of calls in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OverCallerLimit;

/// A caller as the key of a map. Two tokens of one subject are one caller, whatever their claims.
#[derive(Clone)]
struct ByIdentity(Caller);

impl PartialEq for ByIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity() == other.0.identity()
    }
}

impl Eq for ByIdentity {}

impl Hash for ByIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}

impl CallerLimit {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicUsize::new(max),
            in_flight: Mutex::default(),
            refusals: LogThrottle::default(),
        })
    }

    /// Changes the maximum for later calls.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Counts a call of `caller` in this trace. Returns `None` for a caller without a limit.
    ///
    /// # Errors
    ///
    /// The caller is at the limit. A throttled log line names the caller.
    pub(super) fn acquire(
        self: &Arc<Self>,
        caller: &Caller,
        trace: &Trace,
    ) -> Result<Option<CallerSlot>, OverCallerLimit> {
        match caller.identity() {
            Identity::Anonymous | Identity::Unix { .. } => return Ok(None),
            Identity::Spiffe(_) | Identity::Dns(_) | Identity::Jwt { .. } => {}
        }
        let (caller, max) = (ByIdentity(caller.clone()), self.max.load(Ordering::Relaxed));
        {
            let mut in_flight = self.lock();
            let calls = in_flight.entry(caller.clone()).or_default();
            if *calls < max {
                *calls += 1;
                drop(in_flight);
                return Ok(Some(CallerSlot { limit: Arc::clone(self), caller }));
            }
        }
        if let Some(suppressed) = self.refusals.permit() {
            let caller = &caller.0;
            let trace_id = trace.id.map(tracing::field::display);
            tracing::warn!(trace_id, %caller, max, suppressed, "refused a call: its caller has too many calls in flight");
        }
        Err(OverCallerLimit)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ByIdentity, usize, RandomState>> {
        // A panic cannot leave a count in an inconsistent state.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallerSlot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut calls) = self.limit.lock().entry(self.caller.clone()) {
            *calls.get_mut() -= 1;
            if *calls.get() == 0 {
                calls.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::caller::Claims;

    fn token(subject: &str, claim: &str) -> Caller {
        let claims = Claims::from([("group".to_owned(), BTreeSet::from([claim.to_owned()]))]);
        Caller::of_token("issuer".to_owned(), subject.to_owned(), claims)
    }

    #[test]
    fn each_caller_has_its_own_limit_and_a_dropped_slot_is_free() {
        let limit = CallerLimit::new(2);
        let acquire = |caller: &Caller| {
            limit.acquire(caller, &Trace::default()).map(|slot| slot.expect("a limited caller"))
        };
        let first = acquire(&token("alice", "a")).expect("a slot");
        // The claims do not make another caller.
        let _second = acquire(&token("alice", "b")).expect("a slot");
        assert!(acquire(&token("alice", "c")).is_err());
        let _other = acquire(&token("bob", "a")).expect("a slot of another caller");
        drop(first);
        let _third = acquire(&token("alice", "c")).expect("the slot that was dropped");
        assert!(acquire(&token("alice", "c")).is_err());
    }

    #[test]
    fn a_caller_without_calls_uses_no_memory() {
        let limit = CallerLimit::new(1);
        for subject in 0..100 {
            drop(limit.acquire(&token(&subject.to_string(), "a"), &Trace::default()).expect("a slot"));
        }
        assert!(limit.lock().is_empty());
    }

    #[test]
    fn anonymous_callers_and_unix_users_have_no_limit() {
        let limit = CallerLimit::new(1);
        for caller in [Caller::anonymous(), Caller::unix(0)] {
            for _ in 0..10 {
                assert!(limit.acquire(&caller, &Trace::default()).expect("no limit").is_none());
            }
        }
    }
}
