//! Tokens that were verified before: a signature costs some 50 µs, and a caller shows the same token with
//! every call.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::{caller::Caller, fingerprint::fingerprint};

/// The most tokens that are remembered.
const ENTRIES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// The tokens that the keys of one generation have verified. They themselves are not kept, only a digest
/// of each.
pub(super) struct Known(Mutex<Tokens>);

struct Tokens {
    generation: u64,
    verified: LruCache<[u8; 32], Verified>,
}

struct Verified {
    caller: Caller,
    /// In seconds of the Unix epoch.
    until: u64,
}

impl Known {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Tokens { generation: 0, verified: LruCache::new(ENTRIES) }))
    }

    /// The caller whom `token` is about, when it was verified by the keys of this generation and has not
    /// expired `now`.
    pub(super) fn get(&self, token: &[u8], generation: u64, now: u64) -> Option<Caller> {
        let mut tokens = self.of(generation)?;
        let token = fingerprint(token);
        let known = tokens.verified.get(&token)?;
        if now < known.until {
            return Some(known.caller.clone());
        }
        tokens.verified.pop(&token);
        None
    }

    /// Remembers what the keys of this generation have verified.
    pub(super) fn insert(&self, token: &[u8], generation: u64, caller: Caller, until: u64) {
        if let Some(mut tokens) = self.of(generation) {
            tokens.verified.put(fingerprint(token), Verified { caller, until });
        }
    }

    /// The tokens of this generation: none of an older one are left. `None` when it is itself an older one.
    fn of(&self, generation: u64) -> Option<MutexGuard<'_, Tokens>> {
        // Nothing in here can panic halfway.
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.generation < generation {
            tokens.generation = generation;
            tokens.verified.clear();
        }
        (tokens.generation == generation).then_some(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES, Known};
    use crate::caller::Caller;

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_change() {
        let known = Known::new();
        known.insert(b"a", 0, Caller::unix(1), 100);
        assert_eq!(known.get(b"a", 0, 99), Some(Caller::unix(1)));
        assert_eq!(known.get(b"b", 0, 99), None);
        assert_eq!(known.get(b"a", 0, 100), None);

        known.insert(b"a", 0, Caller::unix(1), 100);
        assert_eq!(known.get(b"a", 1, 0), None);
        // What the withdrawn keys verified meanwhile is of no use.
        known.insert(b"a", 0, Caller::unix(1), 100);
        assert_eq!((known.get(b"a", 0, 0), known.get(b"a", 1, 0)), (None, None));
    }

    #[test]
    fn what_was_not_seen_for_long_makes_room() {
        let known = Known::new();
        for token in 0..=ENTRIES.get() {
            known.insert(&token.to_be_bytes(), 0, Caller::anonymous(), 100);
        }
        assert_eq!(known.get(&0_usize.to_be_bytes(), 0, 0), None);
        assert!(known.get(&1_usize.to_be_bytes(), 0, 0).is_some());
    }
}
