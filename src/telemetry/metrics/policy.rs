//! Metrics of the policy's decisions.

use prometheus_client::metrics::counter::Counter;

use super::registry::{Label, Registry};

/// The action of a call, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedAction {
    /// CancelOperation.
    Cancel,
    /// GetOperation.
    Get,
    /// ListOperations.
    List,
    /// WaitOperation.
    Wait,
}

/// The values of `action`, in the order of [`DecidedAction`].
const ACTIONS: [&str; 4] = ["cancel", "get", "list", "wait"];

/// The decision of the policy, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyDecision {
    /// The call is allowed.
    Allow,
    /// The call is denied.
    Deny,
    /// The call is allowed, because the policy is in shadow mode. It would be denied otherwise.
    WouldDeny,
}

/// The values of `decision`, in the order of [`PolicyDecision`].
const DECISIONS: [&str; 3] = ["allow", "deny", "would_deny"];

/// The metrics of the policy. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct PolicyMetrics {
    decisions: [[Counter; DECISIONS.len()]; ACTIONS.len()],
    /// Decisions that were cached.
    pub cache_hits: Counter,
    /// Decisions that Cedar evaluated.
    pub cache_misses: Counter,
}

impl PolicyMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let decisions = registry.counters(
            "countermand_policy_decisions_total",
            "The decisions of the policy. Without a policy, there are none. In shadow mode, the policy denies nothing",
            [Label::one_of("action", &ACTIONS), Label::one_of("decision", &DECISIONS)],
        );
        Self {
            decisions: ACTIONS.map(|action| DECISIONS.map(|decision| decisions.with([action, decision]))),
            cache_hits: registry
                .counter("countermand_policy_cache_hits_total", "The decisions that were in the cache"),
            cache_misses: registry
                .counter("countermand_policy_cache_misses_total", "The decisions that Cedar evaluated"),
        }
    }

    /// Metrics that are in no registry.
    #[must_use]
    pub fn unregistered() -> Self {
        Self::new(&mut Registry::default())
    }

    /// Counts a decision.
    pub fn count(&self, action: DecidedAction, decision: PolicyDecision) {
        self.decisions[action as usize][decision as usize].inc();
    }
}
