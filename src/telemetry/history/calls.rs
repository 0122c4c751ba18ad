//! The last minutes of the calls that this server receives.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{Slots, clock_time, durations::Durations};
use crate::telemetry::metrics::{CODES, RpcMethod};

/// The number of methods, with that of unknown paths.
const METHODS: usize = RpcMethod::ALL.len();

/// The number of single calls that are kept.
const RECENT_CALLS: usize = 50;

/// The kind of a gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// OK.
    Ok,
    /// An error that the caller can avoid, such as NOT_FOUND. Also CANCELLED.
    CallerError,
    /// An error of the server or of the upstream.
    ServerError,
}

/// The calls of the window.
#[derive(Debug)]
pub struct CallHistory(Mutex<History>);

#[derive(Debug)]
struct History {
    slots: Slots<[MethodSlot; METHODS]>,
    recent: VecDeque<KeptCall>,
}

/// The calls of a method in one slot.
#[derive(Debug, Clone, Default)]
struct MethodSlot {
    /// By [`CallOutcome`].
    outcomes: [u32; 3],
    durations: Durations,
}

#[derive(Debug, Clone, Copy)]
struct KeptCall {
    ended: Instant,
    method: RpcMethod,
    code: usize,
    duration: Duration,
}

/// A single call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentCall {
    /// The time of its response, or of the disconnection of its caller.
    pub ended: SystemTime,
    /// The method.
    pub method: RpcMethod,
    /// The name of the gRPC code.
    pub code: &'static str,
    /// The time from its arrival to `ended`.
    pub duration: Duration,
}

/// The calls of the window, read at one time. Series have one element for each complete slot since the start, oldest
/// first.
#[derive(Debug, Clone)]
pub struct CallWindow {
    /// The calls of each slot, by [`CallOutcome`].
    pub outcomes: Vec<[u32; 3]>,
    /// The median and the 99th percentile of the durations in each slot, without WaitOperation. `None` without calls.
    pub durations: Vec<Option<[Duration; 2]>>,
    /// Each method, in the order of [`RpcMethod::ALL`].
    pub methods: Vec<MethodWindow>,
    /// The latest calls, the newest first.
    pub recent: Vec<RecentCall>,
}

/// The calls of a method in the window, with those since the last complete slot.
#[derive(Debug, Clone)]
pub struct MethodWindow {
    /// The method.
    pub method: RpcMethod,
    /// The calls of the window, by [`CallOutcome`].
    pub outcomes: [u64; 3],
    /// The median and the 99th percentile of the durations. `None` without calls.
    pub durations: Option<[Duration; 2]>,
    /// The calls of each complete slot.
    pub calls: Vec<u32>,
}

impl CallOutcome {
    /// The kind of a code by its number (OpenTelemetry, "Semantic conventions for gRPC", has the server's errors).
    fn of(code: usize) -> Self {
        match CODES[code] {
            "OK" => Self::Ok,
            "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" => {
                Self::ServerError
            }
            _ => Self::CallerError,
        }
    }
}

impl Default for CallHistory {
    fn default() -> Self {
        Self(Mutex::new(History { slots: Slots::new(), recent: VecDeque::with_capacity(RECENT_CALLS) }))
    }
}

impl CallHistory {
    /// Counts a call that began at `started` and took `duration`. `code` is the number of a gRPC code, at most 16.
    pub(in crate::telemetry) fn add(
        &self,
        method: RpcMethod,
        code: usize,
        started: Instant,
        duration: Duration,
    ) {
        let ended = started + duration;
        let mut history = self.lock();
        let slot = &mut history.slots.at(ended)[method as usize];
        slot.outcomes[CallOutcome::of(code) as usize] += 1;
        slot.durations.add(duration);
        if history.recent.len() == RECENT_CALLS {
            history.recent.pop_front();
        }
        history.recent.push_back(KeptCall { ended, method, code, duration });
    }

    /// Reads the window.
    #[must_use]
    pub fn read(&self) -> CallWindow {
        let mut history = self.lock();
        let recent = history.recent.iter().rev().map(KeptCall::read).collect();
        let slots = history.slots.read(Instant::now());
        let complete = &slots[..slots.len() - 1];
        let outcomes = complete.iter().map(|slot| sum(slot.iter().map(|method| method.outcomes))).collect();
        let durations = complete.iter().map(|slot| without_waits(slot)).collect();
        let methods = RpcMethod::ALL.map(|method| MethodWindow::read(method, &slots)).into();
        CallWindow { outcomes, durations, methods, recent }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MethodWindow {
    /// Reads the slots, of which the last is not complete.
    fn read(method: RpcMethod, slots: &[&[MethodSlot; METHODS]]) -> Self {
        let slots: Vec<_> = slots.iter().map(|slot| &slot[method as usize]).collect();
        let outcomes = sum(slots.iter().map(|slot| slot.outcomes.map(u64::from)));
        let durations = quantiles(slots.iter().map(|slot| &slot.durations));
        let calls = slots[..slots.len() - 1].iter().map(|slot| slot.outcomes.iter().sum()).collect();
        Self { method, outcomes, durations, calls }
    }
}

impl KeptCall {
    fn read(&self) -> RecentCall {
        let Self { ended, method, code, duration } = *self;
        RecentCall { ended: clock_time(ended), method, code: CODES[code], duration }
    }
}

fn without_waits(slot: &[MethodSlot; METHODS]) -> Option<[Duration; 2]> {
    let methods = RpcMethod::ALL.into_iter().filter(|method| *method != RpcMethod::Wait);
    quantiles(methods.map(|method| &slot[method as usize].durations))
}

/// The median and the 99th percentile.
pub(super) fn quantiles<'a>(durations: impl Iterator<Item = &'a Durations>) -> Option<[Duration; 2]> {
    let mut all = Durations::default();
    durations.for_each(|durations| all.add_all(durations));
    Some([all.quantile(0.5)?, all.quantile(0.99)?])
}

pub(super) fn sum<T: Copy + Default + std::ops::Add<Output = T>, const N: usize>(
    counts: impl Iterator<Item = [T; N]>,
) -> [T; N] {
    counts.fold([T::default(); N], |mut sum, counts| {
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum = *sum + count;
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{CallHistory, MethodWindow, RECENT_CALLS};
    use crate::telemetry::{history::SLOT, metrics::RpcMethod};

    const NOT_FOUND: usize = 5;
    const UNAVAILABLE: usize = 14;

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_by_method_and_outcome() {
        let history = CallHistory::default();
        let add = |method, code, millis| {
            history.add(method, code, Instant::now(), Duration::from_millis(millis));
        };
        add(RpcMethod::Get, 0, 10);
        add(RpcMethod::Get, NOT_FOUND, 10);
        add(RpcMethod::Wait, 0, 4000);
        add(RpcMethod::Cancel, UNAVAILABLE, 10);
        assert_eq!(history.read().outcomes, [] as [[u32; 3]; 0], "no slot is complete");
        advance(SLOT).await;
        add(RpcMethod::Get, 0, 10);
        let window = history.read();
        assert_eq!(window.outcomes, [[2, 1, 1]]);
        let [Some([median, _])] = window.durations[..] else { panic!("{:?}", window.durations) };
        assert!(median < Duration::from_millis(20), "without the wait: {median:?}");
        let of = |wanted| -> &MethodWindow {
            window.methods.iter().find(|method| method.method == wanted).expect("every method is there")
        };
        assert_eq!((of(RpcMethod::Get).outcomes, &of(RpcMethod::Get).calls[..]), ([2, 1, 0], &[2][..]));
        assert_eq!(of(RpcMethod::Cancel).outcomes, [0, 0, 1]);
        assert!(of(RpcMethod::Wait).durations.expect("a call")[0] > Duration::from_secs(2));
        assert_eq!(of(RpcMethod::Delete).durations, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_calls_are_kept() {
        let history = CallHistory::default();
        for millis in 1..=RECENT_CALLS as u64 + 1 {
            history.add(RpcMethod::List, UNAVAILABLE, Instant::now(), Duration::from_millis(millis));
        }
        let recent = history.read().recent;
        assert_eq!(recent.len(), RECENT_CALLS);
        assert_eq!((recent[0].method, recent[0].code), (RpcMethod::List, "UNAVAILABLE"));
        let millis: Vec<_> = recent.iter().map(|call| call.duration.as_millis()).collect();
        assert_eq!((millis[0], millis[RECENT_CALLS - 1]), (51, 2));
    }
}
