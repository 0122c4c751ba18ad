//! The last minutes of calls, of decisions of the quota and of upstream requests, for the status page. Prometheus keeps longer times.
//!
//! The memory is allocated at the start and does not grow. A call takes an uncontended lock and adds to counters. No
//! text of a caller, an enterprise, a device or an operation is kept.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

mod calls;
mod durations;
mod quota;
mod upstream;

pub use calls::{CallHistory, CallOutcome, CallWindow, MethodWindow, RecentCall};
pub use quota::{QuotaHistory, QuotaWindow};
pub use upstream::{ResponseClass, UpstreamError, UpstreamHistory, UpstreamWindow};

/// The time that one slot counts.
pub const SLOT: Duration = Duration::from_secs(5);

/// The complete slots of a window: ten minutes. A window has a further slot, for the time since the last complete one.
pub const COMPLETE_SLOTS: usize = 120;

/// The counts of each slot. A slot of the past is overwritten when its place is needed.
#[derive(Debug)]
struct Slots<T> {
    started: Instant,
    ring: Box<[T]>,
    /// The number of the newest slot, counted from the start.
    newest: usize,
}

impl<T: Clone + Default> Slots<T> {
    fn new() -> Self {
        let ring = vec![T::default(); COMPLETE_SLOTS + 1].into_boxed_slice();
        Self { started: Instant::now(), ring, newest: 0 }
    }

    /// The slot of this time. A time before the newest slot counts in the newest.
    fn at(&mut self, now: Instant) -> &mut T {
        let elapsed = now.saturating_duration_since(self.started).as_secs() / SLOT.as_secs();
        let number = usize::try_from(elapsed).unwrap_or(usize::MAX);
        let cleared = number.saturating_sub(self.newest).min(self.ring.len());
        for skipped in 0..cleared {
            let place = (number - skipped) % self.ring.len();
            self.ring[place] = T::default();
        }
        self.newest = self.newest.max(number);
        &mut self.ring[self.newest % self.ring.len()]
    }

    /// The slots since the start, oldest first, at most [`COMPLETE_SLOTS`] and the newest, which is not complete.
    fn read(&mut self, now: Instant) -> Vec<&T> {
        self.at(now);
        let oldest = (self.newest + 1).saturating_sub(self.ring.len());
        (oldest..=self.newest).map(|number| &self.ring[number % self.ring.len()]).collect()
    }
}

/// The time on the clock at which `then` was.
fn clock_time(then: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(then.elapsed()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::{COMPLETE_SLOTS, SLOT, Slots};

    #[tokio::test(start_paused = true)]
    async fn slots_are_kept_for_the_window_and_then_cleared() {
        let mut slots = Slots::<u32>::new();
        *slots.at(Instant::now()) += 1;
        assert_eq!(slots.read(Instant::now()), [&1]);
        advance(SLOT * 2).await;
        *slots.at(Instant::now()) += 3;
        assert_eq!(slots.read(Instant::now()), [&1, &0, &3]);
        advance(SLOT * (COMPLETE_SLOTS as u32 - 2)).await;
        let window: Vec<_> = slots.read(Instant::now()).into_iter().copied().collect();
        assert_eq!(window.len(), COMPLETE_SLOTS + 1);
        assert_eq!((window[0], window[2], window[COMPLETE_SLOTS]), (1, 3, 0));
        advance(SLOT).await;
        let window: Vec<_> = slots.read(Instant::now()).into_iter().copied().collect();
        assert_eq!((window.len(), window[0], window[1]), (COMPLETE_SLOTS + 1, 0, 3));
        advance(SLOT * 1000).await;
        assert_eq!(slots.read(Instant::now()).into_iter().sum::<u32>(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_of_an_earlier_slot_counts_in_the_newest() {
        let mut slots = Slots::<u32>::new();
        let early = Instant::now();
        advance(SLOT * 3).await;
        *slots.at(Instant::now()) += 1;
        *slots.at(early) += 1;
        assert_eq!(slots.read(Instant::now()), [&0, &0, &0, &2]);
    }
}
