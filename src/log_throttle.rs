//! Limits the rate of a log line that clients can cause.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time between two lines.
const PERIOD: Duration = Duration::from_secs(10);

/// Permits one log line per [`PERIOD`].
#[derive(Default)]
pub(crate) struct LogThrottle(Mutex<Window>);

#[derive(Default)]
struct Window {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// Returns the number of lines that were suppressed since the last permitted line. Returns `None` if no line is
    /// permitted now.
    pub(crate) fn permit(&self) -> Option<u64> {
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
    async fn one_line_per_period_is_permitted_with_the_count_of_suppressed_lines() {
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
