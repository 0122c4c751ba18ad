//! Reports many pending WIPEs of an enterprise, which a stolen token or a wrong script may have issued.
//!
//! The guard sees an operation when Google's response to a get, a list or a poll shows it, whoever calls and whatever the
//! policy says about other callers. It counts the distinct pending WIPEs whose `createTime` is within the period.

use std::{
    collections::BTreeSet,
    hash::BuildHasher,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{amapi::Json, name::NameHasher};

/// The largest `guard.pending_wipes`.
pub(super) const MAX_LIMIT: i64 = 10_000;

/// The maximum number of WIPEs that are kept for an enterprise, the newest ones. It exceeds [`MAX_LIMIT`], so that others
/// are counted when some finish.
const MAX_WIPES: usize = 16_384;

/// The maximum number of WIPEs that are kept for all enterprises, about 50 bytes each in the trees.
const MAX_WIPES_IN_ALL: usize = 16 * MAX_WIPES;

/// The maximum number of enterprises with kept WIPEs.
const MAX_ENTERPRISES: NonZeroUsize = NonZeroUsize::new(4096).expect("is not zero");

/// The number of pending WIPEs of an enterprise that the guard reports when it is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardLimit {
    /// The number that is not reported yet.
    pub pending_wipes: u32,
    /// The maximum age of the WIPEs that count, by their `createTime`.
    pub period: Duration,
}

/// The guard. Without a limit, it keeps and reports nothing.
pub struct Guard {
    /// Whether there is a limit. A call reads it without the lock, because most services have none.
    is_on: AtomicBool,
    state: Mutex<GuardState>,
    hasher: NameHasher,
    triggered: Counter,
}

struct GuardState {
    limit: Option<GuardLimit>,
    /// The enterprises with kept WIPEs, by their ids. The one that was seen least recently is evicted first.
    enterprises: LruCache<Box<str>, PendingWipes, NameHasher>,
    /// The number of kept WIPEs of all enterprises.
    total: usize,
}

/// The pending WIPEs of an enterprise.
#[derive(Default)]
struct PendingWipes {
    wipes: BTreeSet<WipeKey>,
    /// The last report. `None` if the limit was not exceeded since.
    reported: Option<LastReport>,
}

struct LastReport {
    time: OffsetDateTime,
    /// The number of pending WIPEs.
    pending: usize,
}

/// The `createTime` of a WIPE, which never changes, and a hash of its name. A hash limits the memory, because a name has
/// up to 800 bytes.
type WipeKey = (OffsetDateTime, u64);

/// A WIPE in a response.
struct SeenWipe {
    key: WipeKey,
    is_done: bool,
}

impl Guard {
    /// Creates a guard. `triggered` counts its reports.
    #[must_use]
    pub fn new(limit: Option<GuardLimit>, triggered: Counter) -> Self {
        let enterprises = LruCache::with_hasher(MAX_ENTERPRISES, NameHasher::default());
        let state = Mutex::new(GuardState { limit, enterprises, total: 0 });
        Self { is_on: AtomicBool::new(limit.is_some()), state, hasher: NameHasher::default(), triggered }
    }

    /// Replaces the limit. The WIPEs that were seen still count, unless the guard is turned off.
    pub fn replace(&self, limit: Option<GuardLimit>) {
        let mut state = self.lock();
        self.is_on.store(limit.is_some(), Ordering::Relaxed);
        state.limit = limit;
        if limit.is_none() {
            state.enterprises.clear();
            state.total = 0;
        }
    }

    /// Looks at an operation of an enterprise in Google's JSON.
    pub(super) fn see_operation(&self, enterprise: &str, operation: &Json) {
        self.see(enterprise, std::iter::once(operation), OffsetDateTime::now_utc);
    }

    /// Looks at a page of an enterprise's operations in Google's JSON.
    pub(super) fn see_page(&self, enterprise: &str, page: &Json) {
        let operations = page.get("operations").and_then(Value::as_array).into_iter().flatten();
        self.see(enterprise, operations.filter_map(Value::as_object), OffsetDateTime::now_utc);
    }

    fn see<'a>(
        &self,
        enterprise: &str,
        operations: impl Iterator<Item = &'a Json>,
        now: impl FnOnce() -> OffsetDateTime,
    ) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let wipes: Vec<_> = operations.filter_map(|operation| self.wipe(operation)).collect();
        if wipes.is_empty() {
            return;
        }
        let report = self.lock().add(enterprise, &wipes, now());
        if let Some((pending, GuardLimit { pending_wipes: limit, period })) = report {
            self.triggered.inc();
            let period = humantime::format_duration(period);
            tracing::warn!(
                enterprise, pending, limit, %period,
                "an enterprise has many pending WIPEs: if they are a mistake, cancel them, for example by countermand recall"
            );
        }
    }

    /// The operation, if it is a WIPE.
    fn wipe(&self, operation: &Json) -> Option<SeenWipe> {
        let metadata = operation.get("metadata")?;
        if metadata.get("type")?.as_str()? != "WIPE" {
            return None;
        }
        let name = operation.get("name")?.as_str()?;
        let created = OffsetDateTime::parse(metadata.get("createTime")?.as_str()?, &Rfc3339).ok()?;
        let is_done = operation.get("done") == Some(&Value::Bool(true));
        Some(SeenWipe { key: (created, self.hasher.hash_one(name)), is_done })
    }

    fn lock(&self) -> MutexGuard<'_, GuardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuardState {
    /// Adds the WIPEs of a response, and removes those that are done. Returns the number of pending ones, with the limit,
    /// if it is to be reported.
    fn add(
        &mut self,
        enterprise: &str,
        seen: &[SeenWipe],
        now: OffsetDateTime,
    ) -> Option<(usize, GuardLimit)> {
        let limit = self.limit?;
        let mut pending = self.enterprises.pop(enterprise).unwrap_or_default();
        self.total -= pending.wipes.len();
        pending.expire(&limit, now);
        pending.add(seen, now - limit.period);
        let count = pending.wipes.len();
        let report = pending.report(&limit, now).then_some((count, limit));
        if count > 0 {
            self.total += count;
            if let Some((_, evicted)) = self.enterprises.push(enterprise.into(), pending) {
                self.total -= evicted.wipes.len();
            }
            while self.total > MAX_WIPES_IN_ALL
                && let Some((_, evicted)) = self.enterprises.pop_lru()
            {
                self.total -= evicted.wipes.len();
            }
        }
        report
    }
}

impl PendingWipes {
    /// Removes the WIPEs that are older than the period. The next excess is reported if this ends the current one.
    fn expire(&mut self, limit: &GuardLimit, now: OffsetDateTime) {
        self.wipes = self.wipes.split_off(&(now - limit.period, 0));
        if !self.exceed(limit) {
            self.reported = None;
        }
    }

    /// Adds the pending WIPEs since `start`, and removes those that are done.
    fn add(&mut self, seen: &[SeenWipe], start: OffsetDateTime) {
        for SeenWipe { key, is_done } in seen {
            if *is_done {
                self.wipes.remove(key);
            } else if key.0 >= start && self.wipes.insert(*key) && self.wipes.len() > MAX_WIPES {
                self.wipes.pop_first();
            }
        }
    }

    /// Whether the number is to be reported: when it exceeds the limit, when it is twice that of the last report, and when
    /// it still exceeds the limit after the period. All WIPEs that count are then newer than the last report.
    fn report(&mut self, limit: &GuardLimit, now: OffsetDateTime) -> bool {
        if !self.exceed(limit) {
            self.reported = None;
            return false;
        }
        let count = self.wipes.len();
        let is_due = self
            .reported
            .as_ref()
            .is_none_or(|LastReport { time, pending }| count >= 2 * pending || now - *time >= limit.period);
        if is_due {
            self.reported = Some(LastReport { time: now, pending: count });
        }
        is_due
    }

    fn exceed(&self, limit: &GuardLimit) -> bool {
        u32::try_from(self.wipes.len()).is_ok_and(|count| count > limit.pending_wipes)
    }
}

#[cfg(test)]
mod tests;
