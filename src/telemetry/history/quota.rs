//! The last minutes of the decisions of the quota.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::{Slots, calls::sum};
use crate::telemetry::metrics::QuotaDecision;

/// The decisions of the window, of all projects.
#[derive(Debug)]
pub struct QuotaHistory(Mutex<Slots<[u32; 4]>>);

/// The decisions of the window, read at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaWindow {
    /// The decisions of each complete slot since the start, oldest first, by [`QuotaDecision`].
    pub decisions: Vec<[u32; 4]>,
    /// The decisions of the window, with those since the last complete slot, by [`QuotaDecision`].
    pub all_decisions: [u64; 4],
}

impl Default for QuotaHistory {
    fn default() -> Self {
        Self(Mutex::new(Slots::new()))
    }
}

impl QuotaHistory {
    /// Counts a decision.
    pub(in crate::telemetry) fn add(&self, decision: QuotaDecision, now: Instant) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.at(now)[decision as usize] += 1;
    }

    /// Reads the window.
    #[must_use]
    pub fn read(&self) -> QuotaWindow {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = slots.read(Instant::now());
        QuotaWindow {
            decisions: slots[..slots.len() - 1].iter().map(|slot| **slot).collect(),
            all_decisions: sum(slots.iter().map(|slot| slot.map(u64::from))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::{QuotaHistory, QuotaWindow};
    use crate::telemetry::{history::SLOT, metrics::QuotaDecision};

    #[tokio::test(start_paused = true)]
    async fn decisions_are_counted_in_the_slot_of_their_time() {
        let history = QuotaHistory::default();
        history.add(QuotaDecision::Immediate, Instant::now());
        history.add(QuotaDecision::Refused, Instant::now());
        advance(SLOT).await;
        history.add(QuotaDecision::Refused, Instant::now());
        let window = QuotaWindow { decisions: vec![[1, 0, 1, 0]], all_decisions: [1, 0, 2, 0] };
        assert_eq!(history.read(), window);
    }
}
