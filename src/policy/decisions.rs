//! What the rules have said. Cedar looks at every policy, 13 µs for two and 710 µs for a thousand, and says
//! the same to the same question for as long as the rules are in force.

use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::{Action, rules::Verdict};
use crate::caller::Caller;

/// The most answers.
const MOST: usize = 16_384;

/// The most bytes, roughly, that the callers of the answers weigh: one with a token of many claims can be
/// larger than a thousand others.
const HEAVIEST: usize = 16 << 20;

/// What a caller weighs besides its texts, its place in the memory included.
const FRAME: usize = 256;

/// Everything that an answer can depend on. The resource is there by what the rules can know of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) caller: Caller,
    pub(super) action: Action,
    pub(super) place: u32,
    pub(super) is_operation: bool,
}

/// The latest answers.
pub(super) struct Decisions {
    known: Mutex<Known>,
}

struct Known {
    answers: LruCache<Question, Verdict>,
    weight: usize,
}

impl Decisions {
    pub(super) fn new() -> Self {
        Self { known: Mutex::new(Known { answers: LruCache::unbounded(), weight: 0 }) }
    }

    pub(super) fn get(&self, question: &Question) -> Option<Verdict> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).answers.get(question).cloned()
    }

    /// Keeps an answer, and forgets those longest unused where it is too much.
    pub(super) fn put(&self, question: Question, verdict: Verdict) {
        let weight = weight(&question.caller);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.answers.put(question, verdict).is_none() {
            known.weight += weight;
        }
        while known.answers.len() > MOST || known.weight > HEAVIEST {
            let Some((oldest, _)) = known.answers.pop_lru() else { break };
            known.weight = known.weight.saturating_sub(self::weight(&oldest.caller));
        }
    }
}

fn weight(caller: &Caller) -> usize {
    let claims = caller.claims().iter();
    let claims = claims.map(|(name, values)| name.len() + values.iter().map(String::len).sum::<usize>());
    FRAME + caller.to_string().len() + claims.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Decisions, HEAVIEST, MOST, Question};
    use crate::{
        caller::{Caller, Claims},
        policy::{Action, Policies, rules::Verdict},
    };

    fn question(caller: Caller) -> Question {
        Question { caller, action: Action::Get, place: 0, is_operation: true }
    }

    fn verdict() -> Verdict {
        Verdict { allowed: true, policies: Policies::default() }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let decisions = Decisions::new();
        let of = |uid: usize| question(Caller::unix(uid.try_into().unwrap()));
        for uid in 0..MOST {
            decisions.put(of(uid), verdict());
        }
        assert_eq!(decisions.get(&of(0)), Some(verdict()), "which makes 1 the oldest");
        decisions.put(of(MOST), verdict());
        assert_eq!(decisions.get(&of(1)), None);
        for kept in [0, 2, MOST] {
            assert_eq!(decisions.get(&of(kept)), Some(verdict()), "{kept}");
        }
    }

    #[test]
    fn heavy_callers_are_fewer() {
        let of = |name: usize| {
            let text = BTreeSet::from(["x".repeat(HEAVIEST / 4)]);
            question(Caller::of_token(
                "i".to_owned(),
                name.to_string(),
                Claims::from([("c".to_owned(), text)]),
            ))
        };
        let decisions = Decisions::new();
        for name in 0..10 {
            decisions.put(of(name), verdict());
            // To say it again weighs nothing.
            decisions.put(of(name), verdict());
        }
        let kept: Vec<_> = (0..10).filter(|name| decisions.get(&of(*name)).is_some()).collect();
        assert_eq!(kept, [7, 8, 9]);
        let known = decisions.known.lock().unwrap();
        assert!(known.weight <= HEAVIEST && known.weight > HEAVIEST / 2, "{}", known.weight);
    }
}
