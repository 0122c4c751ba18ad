//! A line of the log that a crowd could repeat without end.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// One line is let through in this time.
const PERIOD: Duration = Duration::from_secs(10);

/// Lets a line through once in a while.
#[derive(Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Instant>,
    kept_back: u64,
}

impl Seldom {
    /// Whether the line may be written now; then, how many were kept back since the last.
    pub(super) fn turn(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now.duration_since(last) < PERIOD) {
            state.kept_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_one_in_ten_seconds_passes_and_tells_of_the_others() {
        let seldom = Seldom::default();
        assert_eq!(seldom.turn(), Some(0));
        for _ in 0..3 {
            assert_eq!(seldom.turn(), None);
        }
        tokio::time::advance(PERIOD).await;
        assert_eq!(seldom.turn(), Some(3));
        assert_eq!(seldom.turn(), None);
    }
}
