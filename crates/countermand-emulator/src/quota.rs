//! The quota of API calls in a sliding window.

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use crate::settings::positive;

/// A limit on API calls: at most `queries` in any `window`. A call that exceeds the limit does not count.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many API calls a quota window allows: a number, or "off"
    #[arg(long = "quota", value_name = "CALLS", default_value = "1000", value_parser = queries)]
    #[arg(env = "COUNTERMAND_EMULATOR_QUOTA")]
    // The path keeps clap from reading `None` as an absent flag.
    pub queries: std::option::Option<usize>,
    /// How long the quota window is
    #[arg(long = "quota-window", value_name = "TIME", default_value = "100s", value_parser = positive)]
    pub window: Duration,
}

fn queries(text: &str) -> Result<Option<usize>, &'static str> {
    if text == "off" { Ok(None) } else { text.parse().map(Some).map_err(|_| "expected a number or \"off\"") }
}

impl Quota {
    /// No limit.
    pub const UNLIMITED: Self = Self { queries: None, window: Duration::ZERO };
}

impl Default for Quota {
    /// A project's quota for the Android Management API, unless Google has raised it.
    fn default() -> Self {
        Self { queries: Some(1000), window: Duration::from_secs(100) }
    }
}

/// The admitted calls that still count.
#[derive(Default)]
pub(crate) struct QuotaWindow {
    admitted: VecDeque<Instant>,
}

impl QuotaWindow {
    /// Admits a call at `now`, or rejects it without counting it.
    pub(crate) fn admit(&mut self, quota: Quota, now: Instant) -> bool {
        let Quota { queries, window } = quota;
        let Some(queries) = queries else { return true };
        let counts = |call: &Instant| now.saturating_duration_since(*call) < window;
        while self.admitted.front().is_some_and(|oldest| !counts(oldest)) {
            self.admitted.pop_front();
        }
        let admitted = self.admitted.len() < queries;
        if admitted {
            self.admitted.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_quota_exhausted_in_one_second_rejects_calls_for_99_seconds() {
        let (mut window, quota, start) = (QuotaWindow::default(), Quota::default(), Instant::now());
        assert!((0..1000).all(|i| window.admit(quota, start + SECOND * i / 1000)));
        assert!((1..=99).all(|i| !window.admit(quota, start + SECOND * i)));
        assert!(window.admit(quota, start + SECOND * 100));
        assert!(!window.admit(quota, start + SECOND * 100));
    }

    #[test]
    fn the_window_slides() {
        let quota = Quota { queries: Some(2), window: SECOND * 10 };
        let (mut window, start) = (QuotaWindow::default(), Instant::now());
        let mut admit = |at: u32| window.admit(quota, start + SECOND * at);
        let admitted = [admit(0), admit(6), admit(9), admit(10), admit(15), admit(16)];
        assert_eq!(admitted, [true, true, false, true, false, true]);
    }

    #[test]
    fn a_quota_of_zero_admits_no_call_and_no_quota_admits_all() {
        let quota = Quota { queries: Some(0), window: SECOND };
        assert!(!QuotaWindow::default().admit(quota, Instant::now()));
        assert!(QuotaWindow::default().admit(Quota::UNLIMITED, Instant::now()));
    }
}
