//! The limiter of one project in this process.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Class,
    gcra::{Admission, Pace, State, micros},
};

/// Admits the queries of one project at its pace.
pub(super) struct Limiter {
    pace: Pace,
    state: State,
    /// The zero of the clock of `state`.
    start: Instant,
}

impl Limiter {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, state: State::default(), start: Instant::now() }
    }

    /// Changes the pace. The learned state stays.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Admits up to the `wanted` number of queries of each class.
    pub(super) fn admit(&mut self, wanted: [u32; 3]) -> Admission {
        self.state.admit(self.pace, self.now(), wanted)
    }

    /// The time until a query of a class is admitted after `before` others.
    pub(super) fn wait(&self, class: Class, before: u32) -> Duration {
        duration(self.state.wait(self.pace, self.now(), class, before))
    }

    /// Google refused a query for the quota. Returns whether a hold begins.
    pub(super) fn refused(&mut self, hold: Duration) -> bool {
        let is_new = self.hold().is_zero();
        self.state.refused(self.pace, self.now(), micros(hold));
        is_new
    }

    /// Google answered a cancel that probed the hold.
    pub(super) fn probe_answered(&mut self) {
        self.state.probe_answered(self.now());
    }

    /// The time until the hold ends. Zero if there is none.
    pub(super) fn hold(&self) -> Duration {
        duration((self.state.hold_until - self.now()).max(0.0))
    }

    /// The configured rate and the rate now, in queries per second.
    pub(super) fn rates(&self) -> (f64, f64) {
        let rate = |interval: f64| 1e6 / interval;
        (rate(self.pace.interval), rate(self.state.interval(self.pace, self.now())))
    }

    /// The number of cancels that could leave at once.
    pub(super) fn available(&self) -> f64 {
        if self.hold().is_zero() { self.pace.burst - self.state.ahead(self.pace, self.now()) } else { 0.0 }
    }

    fn now(&self) -> f64 {
        micros(self.start.elapsed())
    }
}

/// A number of microseconds, rounded up, so that nothing is early.
pub(super) fn duration(micros: f64) -> Duration {
    Duration::from_micros(micros.ceil() as u64)
}
