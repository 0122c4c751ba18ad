//! The quota on API calls: at most so many in any stretch of time.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::settings::Quota;

/// The calls admitted so far that still count.
#[derive(Default)]
pub(super) struct Window {
    admitted: VecDeque<Instant>,
}

impl Window {
    /// Admits a call at `now`, or refuses it without counting it.
    pub(super) fn admit(&mut self, quota: Quota, now: Instant) -> bool {
        let Quota { queries, window } = quota;
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
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_quota_spent_in_one_second_means_99_seconds_of_refusals() {
        let (mut window, quota, start) = (Window::default(), Quota::default(), Instant::now());
        assert!((0..1000).all(|i| window.admit(quota, start + SECOND * i / 1000)));
        assert!((1..=99).all(|i| !window.admit(quota, start + SECOND * i)));
        assert!(window.admit(quota, start + SECOND * 100));
        assert!(!window.admit(quota, start + SECOND * 100));
    }

    #[test]
    fn the_window_slides() {
        let quota = Quota { queries: 2, window: SECOND * 10 };
        let (mut window, start) = (Window::default(), Instant::now());
        let mut admit = |at: u32| window.admit(quota, start + SECOND * at);
        let admitted = [admit(0), admit(6), admit(9), admit(10), admit(15), admit(16)];
        assert_eq!(admitted, [true, true, false, true, false, true]);
    }

    #[test]
    fn a_quota_of_none_admits_none() {
        let quota = Quota { queries: 0, window: SECOND };
        assert!(!Window::default().admit(quota, Instant::now()));
    }
}
