//! A log line that clients could otherwise repeat without limit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time between two lines.
const PERIOD: Duration = Duration::from_secs(10);

/// Permits one log line per [`PERIOD`].
#[derive(Default)]
pub(super) struct LogThrottle(Mutex<Window>);

#[derive(Default)]
struct Window {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// Returns how many lines were suppressed since the last one when a line may be written now, otherwise
    /// `None`.
    pub(super) fn permit(&self) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if window.last.is_some_and(|last| now.duration_since(last) < PERIOD) {
            window.suppressed += 1;
            return None;
        }
        window.last = Some(now);
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_period_passes_and_counts_the_suppressed_ones() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.permit(), Some(0));
        for _ in 0..3 {
            assert_eq!(throttle.permit(), None);
        }
        tokio::time::advance(PERIOD).await;
        assert_eq!(throttle.permit(), Some(3));
        assert_eq!(throttle.permit(), None);
    }
}
