//! How long to pause between two questions.

use std::time::Duration;

/// A pause that grows by half each time, from a first one to a longest.
#[derive(Debug)]
pub(super) struct Pace {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Pace {
    /// Between polls of an operation that is not done: what Google's own clients do.
    pub(super) fn polls() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(20))
    }

    /// Before a retry of a call that failed.
    pub(super) fn retries() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(20))
    }

    fn new(first: Duration, longest: Duration) -> Self {
        Self { first, next: first, longest }
    }

    /// The pause that is due. Up to a tenth of it is left off at random, lest many who began together
    /// stay together.
    pub(super) fn step(&mut self) -> Duration {
        let due = self.next;
        self.next = due.mul_f64(1.5).min(self.longest);
        due.mul_f64(1.0 - fastrand::f64() / 10.0)
    }

    /// Begins again with the first pause.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_to_its_longest_and_begins_again() {
        let mut pace = Pace::polls();
        let within = |found: Duration, wanted: f64| {
            let found = found.as_secs_f64();
            assert!((wanted * 0.9..=wanted).contains(&found), "{found} is not up to a tenth below {wanted}");
        };
        for wanted in [1.0, 1.5, 2.25] {
            within(pace.step(), wanted);
        }
        for _ in 0..10 {
            pace.step();
        }
        within(pace.step(), 20.0);
        pace.reset();
        within(pace.step(), 1.0);
    }
}
