//! The cache of decisions. Cedar evaluates every policy for each decision: 13 µs for two policies, 710 µs for a
//! thousand. While the rules are active, the decision for a key does not change.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::{Action, entities::ResourceType, rules::Verdict};
use crate::caller::Caller;

/// The maximum number of decisions.
const MAX_DECISIONS: usize = 16_384;

/// The approximate maximum of memory for the callers, in bytes. A caller with many claims can be larger than a thousand
/// others.
const MAX_WEIGHT: usize = 16 << 20;

/// The approximate memory of an entry without the texts of its caller, in bytes.
const ENTRY_WEIGHT: usize = 256;

/// Every input of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DecisionKey {
    pub(super) caller: Caller,
    pub(super) action: Action,
    pub(super) resource_type: ResourceType,
    /// The deepest resource that the rules name and that is the resource or an ancestor of it. The rules can test
    /// nothing else of the resource.
    pub(super) named: Option<Arc<str>>,
}

/// The latest decisions.
pub(super) struct DecisionCache(Mutex<WeighedDecisions>);

struct WeighedDecisions {
    decisions: LruCache<DecisionKey, Verdict>,
    weight: usize,
}

impl DecisionCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(WeighedDecisions { decisions: LruCache::unbounded(), weight: 0 }))
    }

    pub(super) fn get(&self, key: &DecisionKey) -> Option<Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).decisions.get(key).cloned()
    }

    /// Adds a decision and evicts the least recently used ones over the limits.
    pub(super) fn put(&self, key: DecisionKey, verdict: Verdict) {
        let added = weight(&key.caller);
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.decisions.put(key, verdict).is_none() {
            cache.weight += added;
        }
        while cache.decisions.len() > MAX_DECISIONS || cache.weight > MAX_WEIGHT {
            let Some((oldest, _)) = cache.decisions.pop_lru() else { break };
            cache.weight = cache.weight.saturating_sub(weight(&oldest.caller));
        }
    }
}

fn weight(caller: &Caller) -> usize {
    let claims = caller.claims().iter();
    let claims = claims.map(|(name, values)| name.len() + values.iter().map(String::len).sum::<usize>());
    ENTRY_WEIGHT + caller.to_string().len() + claims.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{DecisionCache, DecisionKey, MAX_DECISIONS, MAX_WEIGHT};
    use crate::{
        caller::{Caller, Claims},
        policy::{Action, Policies, entities::ResourceType, rules::Verdict},
    };

    fn key(caller: Caller) -> DecisionKey {
        DecisionKey { caller, action: Action::Get, resource_type: ResourceType::Operation, named: None }
    }

    fn verdict() -> Verdict {
        Verdict { allowed: true, policies: Policies::default() }
    }

    #[test]
    fn the_least_recently_used_decision_is_evicted() {
        let cache = DecisionCache::new();
        let of = |uid: usize| key(Caller::unix(uid.try_into().unwrap()));
        for uid in 0..MAX_DECISIONS {
            cache.put(of(uid), verdict());
        }
        assert_eq!(cache.get(&of(0)), Some(verdict()), "the least recently used decision is now 1");
        cache.put(of(MAX_DECISIONS), verdict());
        assert_eq!(cache.get(&of(1)), None);
        for kept in [0, 2, MAX_DECISIONS] {
            assert_eq!(cache.get(&of(kept)), Some(verdict()), "{kept}");
        }
    }

    #[test]
    fn decisions_about_large_callers_are_evicted_by_their_weight() {
        let of = |name: usize| {
            let text = BTreeSet::from(["x".repeat(MAX_WEIGHT / 4)]);
            let claims = Claims::from([("c".to_owned(), text)]);
            key(Caller::of_token("i".to_owned(), name.to_string(), claims))
        };
        let cache = DecisionCache::new();
        for name in 0..10 {
            cache.put(of(name), verdict());
            // The same decision again adds no weight.
            cache.put(of(name), verdict());
        }
        let kept: Vec<_> = (0..10).filter(|name| cache.get(&of(*name)).is_some()).collect();
        assert_eq!(kept, [7, 8, 9]);
        let weight = cache.0.lock().unwrap().weight;
        assert!(weight <= MAX_WEIGHT && weight > MAX_WEIGHT / 2, "{weight}");
    }
}
