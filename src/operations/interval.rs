//! How long to wait between two questions.

use std::time::Duration;

use tokio::time::Instant;

/// By how much the interval grows from question to question.
const GROWTH: f64 = 1.5;

/// The part of an interval by which it may be longer, so that pollers do not go together.
const JITTER: f64 = 0.1;

/// The shortest and the longest interval.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// The first, and the one after something happened.
    pub min: Duration,
    /// The one that it grows up to.
    pub max: Duration,
}

/// When the next question is due.
pub(super) struct Interval {
    limits: Intervals,
    current: Duration,
    due: Instant,
}

impl Interval {
    /// The first question is due after the shortest interval: whoever begins to wait has just asked.
    pub(super) fn new(limits: Intervals) -> Self {
        Self { limits, current: limits.min, due: Instant::now() + jittered(limits.min) }
    }

    /// When the next question is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A question was asked: the next is due after a longer interval.
    pub(super) fn grow(&mut self) {
        self.current = self.current.mul_f64(GROWTH).min(self.limits.max);
        self.due = Instant::now() + jittered(self.current);
    }

    /// Something happened: the next question is due after the shortest interval, unless it is due sooner.
    pub(super) fn hurry(&mut self) {
        self.current = self.limits.min;
        self.due = self.due.min(Instant::now() + jittered(self.limits.min));
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Interval, Intervals};

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(interval: &Interval) -> f64 {
        (interval.due() - Instant::now()).as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_grows_to_the_longest_and_can_be_hurried() {
        let mut interval = Interval::new(Intervals { min: SECOND, max: 20 * SECOND });
        for expected in [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390_625, 17.085_937, 20.0, 20.0] {
            let wait = wait(&interval);
            assert!((expected..=expected * 1.1 + 0.001).contains(&wait), "{wait} for {expected}");
            interval.grow();
        }
        interval.hurry();
        assert!((1.0..=1.1).contains(&wait(&interval)));
        advance(SECOND / 2).await;
        interval.hurry();
        assert!(wait(&interval) <= 0.6, "who hurries again and again does not put the question off");
    }
}
