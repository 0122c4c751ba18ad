//! The retry budget of one upstream, which all its calls share.
//!
//! A failing upstream gets few retries, the failures of one caller leave retries for other callers, and reads leave
//! retries for cancels. docs/ARCHITECTURE.md has the reasons for the shares.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::caller::{Caller, Identity};

/// The window in which requests and retries are counted, in slots.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);

/// The retries of a window without requests: ten per second, so that the first call may retry too.
const FLOOR: u32 = 100;

/// One retry for each five requests of the window, in addition to [`FLOOR`].
const REQUESTS_PER_RETRY: u32 = 5;

/// Reads leave a fifth to cancels: of the budget, and of the share of their caller.
const CANCEL_RESERVE: u32 = 5;

/// A caller may use half of the budget when there are other callers.
const CALLER_SHARE: u32 = 2;

/// The maximum number of callers that are counted singly. Further callers count as one.
const MAX_CALLERS: usize = 256;

/// The use of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryUse {
    /// A cancel, which may use the whole budget.
    Cancel,
    /// A get, a list or a poll.
    Read,
}

/// Limits the retries to a fifth of the requests and [`FLOOR`].
pub(super) struct RetryBudget {
    started: Instant,
    window: Mutex<Window>,
    exhaustions: AtomicU64,
}

/// A caller whose retries are counted singly. `None` stands for polls, and for the callers beyond [`MAX_CALLERS`].
type CallerKey = Option<Identity>;

/// The counts of the latest [`SLOTS`] seconds.
#[derive(Default)]
struct Window {
    /// The latest slot, in seconds from the start.
    latest: u64,
    requests: [u32; SLOTS],
    retries: HashMap<CallerKey, [u32; SLOTS]>,
    /// The caller of the latest request; `None` for a poll, and before the first request.
    latest_caller: Option<Caller>,
    /// The latest slot in which the caller changed.
    caller_changed: Option<u64>,
}

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), window: Mutex::default(), exhaustions: AtomicU64::new(0) }
    }

    /// Counts a request of `caller`; `None` for a poll. All polls are of one caller, which is this server.
    pub(super) fn deposit(&self, caller: Option<&Caller>) {
        let mut window = self.window();
        let is_same = window.latest_caller.as_ref().map(Caller::identity) == caller.map(Caller::identity);
        if !is_same {
            if window.requests.iter().any(|count| *count > 0) {
                window.caller_changed = Some(window.latest);
            }
            window.latest_caller = caller.cloned();
        }
        let slot = index(window.latest);
        window.requests[slot] = window.requests[slot].saturating_add(1);
    }

    /// Takes a retry for `caller`. Returns `false` when the budget has none for it.
    pub(super) fn withdraw(&self, caller: Option<&Caller>, retry: RetryUse) -> bool {
        let is_allowed = self.window().withdraw(caller.map(Caller::identity), retry);
        if !is_allowed {
            self.exhaustions.fetch_add(1, Relaxed);
        }
        is_allowed
    }

    /// The number of retries that are left for all callers together. Each caller is charged at most its share. One
    /// caller, or reads, may get fewer.
    pub(super) fn available(&self) -> u32 {
        let window = self.window();
        window.budget().saturating_sub(window.charged(|_| true))
    }

    /// The number of retries that were refused since the start.
    pub(super) fn exhaustions(&self) -> u64 {
        self.exhaustions.load(Relaxed)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        let now = self.started.elapsed().as_secs() / SLOT.as_secs();
        // A panic cannot leave the counts in an inconsistent state.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.advance(now);
        window
    }
}

impl Window {
    /// Clears the slots that have left the window.
    fn advance(&mut self, now: u64) {
        if now <= self.latest {
            return;
        }
        for slot in self.latest + 1..=now.min(self.latest + SLOTS as u64) {
            self.requests[index(slot)] = 0;
            self.retries.values_mut().for_each(|retries| retries[index(slot)] = 0);
        }
        self.retries.retain(|_, retries| retries.iter().any(|count| *count > 0));
        self.latest = now;
    }

    /// Takes a retry, if the budget has one for this caller and use.
    fn withdraw(&mut self, caller: Option<&Identity>, retry: RetryUse) -> bool {
        let key = self.key(caller);
        let part = |limit: u32| match retry {
            RetryUse::Cancel => limit,
            RetryUse::Read => limit - limit / CANCEL_RESERVE,
        };
        let limit = part(self.budget());
        let own_limit = if self.has_several_callers() { part(self.share()) } else { limit };
        let own = self.used_by(&key);
        if own >= own_limit || own + self.charged(|caller| *caller != key) >= limit {
            return false;
        }
        self.retries.entry(key).or_default()[index(self.latest)] += 1;
        true
    }

    fn key(&self, caller: Option<&Identity>) -> CallerKey {
        let key = caller.cloned();
        let is_counted_singly = self.retries.len() < MAX_CALLERS || self.retries.contains_key(&key);
        if is_counted_singly { key } else { None }
    }

    /// The retries of all callers in this window.
    fn budget(&self) -> u32 {
        FLOOR + self.requests.iter().sum::<u32>() / REQUESTS_PER_RETRY
    }

    fn share(&self) -> u32 {
        self.budget() / CALLER_SHARE
    }

    fn has_several_callers(&self) -> bool {
        self.caller_changed.is_some_and(|slot| self.latest - slot < SLOTS as u64)
    }

    fn used_by(&self, key: &CallerKey) -> u32 {
        self.retries.get(key).map_or(0, |retries| retries.iter().sum())
    }

    /// The used retries of the `included` callers, each counted up to its share. A caller that was alone may have
    /// used more. The first call of another caller must not pay for that.
    fn charged(&self, included: impl Fn(&CallerKey) -> bool) -> u32 {
        let retries = self.retries.iter().filter(|(caller, _)| included(caller));
        retries.map(|(_, retries)| retries.iter().sum::<u32>().min(self.share())).sum()
    }
}

fn index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance};

    use super::{Caller, RetryBudget, RetryUse};

    /// The number of retries that `caller` gets.
    fn drain(budget: &RetryBudget, caller: &Caller, retry: RetryUse) -> u32 {
        (0..).take_while(|_| budget.withdraw(Some(caller), retry)).count().try_into().expect("few")
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_a_fifth_of_the_requests_and_ten_retries_per_second() {
        let (budget, caller) = (RetryBudget::new(), Caller::anonymous());
        assert_eq!((budget.available(), budget.exhaustions()), (100, 0));
        for _ in 0..500 {
            budget.deposit(Some(&caller));
        }
        assert_eq!(budget.available(), 200);
        assert_eq!(drain(&budget, &caller, RetryUse::Cancel), 200);
        assert_eq!(budget.exhaustions(), 1);
        advance(Duration::from_secs(9)).await;
        assert_eq!(drain(&budget, &caller, RetryUse::Cancel), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(drain(&budget, &caller, RetryUse::Cancel), 100);
        advance(Duration::from_secs(1000)).await;
        assert_eq!(budget.available(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_a_fifth_to_cancels() {
        let (budget, caller) = (RetryBudget::new(), Caller::anonymous());
        assert_eq!(drain(&budget, &caller, RetryUse::Read), 80);
        assert_eq!(budget.available(), 50, "another caller has its share");
        assert_eq!(drain(&budget, &caller, RetryUse::Cancel), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn the_reads_of_a_caller_leave_a_fifth_of_its_share_to_its_cancels() {
        let budget = RetryBudget::new();
        let callers = [0, 1].map(Caller::unix);
        for caller in &callers {
            budget.deposit(Some(caller));
        }
        for retry in [RetryUse::Read, RetryUse::Cancel] {
            let used = callers.each_ref().map(|caller| drain(&budget, caller, retry));
            assert_eq!(used, if retry == RetryUse::Read { [40, 40] } else { [10, 10] });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polls_are_another_caller() {
        let budget = RetryBudget::new();
        let caller = Caller::unix(0);
        budget.deposit(None);
        budget.deposit(None);
        assert!(!budget.window().has_several_callers());
        budget.deposit(Some(&caller));
        assert_eq!(drain(&budget, &caller, RetryUse::Cancel), 50);
        // After a window without requests, the caller of the next one is alone.
        advance(Duration::from_secs(10)).await;
        budget.deposit(None);
        assert!(!budget.window().has_several_callers());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_uses_at_most_half_when_there_are_others() {
        let budget = RetryBudget::new();
        let callers = [0, 1, 2].map(Caller::unix);
        for caller in &callers {
            budget.deposit(Some(caller));
        }
        let used = callers.each_ref().map(|caller| drain(&budget, caller, RetryUse::Cancel));
        assert_eq!(used, [50, 50, 0]);
        // After a window with one caller, the caller is alone.
        advance(Duration::from_secs(10)).await;
        budget.deposit(Some(&callers[2]));
        assert_eq!(drain(&budget, &callers[2], RetryUse::Cancel), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_was_alone_leaves_half_to_the_next_caller() {
        let budget = RetryBudget::new();
        let [alone, next] = [0, 1].map(Caller::unix);
        budget.deposit(Some(&alone));
        assert_eq!(drain(&budget, &alone, RetryUse::Cancel), 100);
        budget.deposit(Some(&next));
        assert_eq!(budget.available(), 50);
        assert_eq!(drain(&budget, &next, RetryUse::Cancel), 50);
        assert_eq!(drain(&budget, &alone, RetryUse::Cancel), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_counted_callers_is_bounded() {
        let budget = RetryBudget::new();
        let callers: Vec<_> = (0..1000).map(Caller::unix).collect();
        for _ in 0..10_000 {
            budget.deposit(None);
        }
        for caller in &callers {
            assert!(budget.withdraw(Some(caller), RetryUse::Cancel));
        }
        assert_eq!(budget.window().retries.len(), super::MAX_CALLERS + 1);
        assert_eq!(budget.available(), 2100 - 1000);
    }
}
