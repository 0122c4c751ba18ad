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
    usage: Usage,
}

/// The parts of the rate that queries used recently. They predict the queries that will leave before those that wait.
#[derive(Default)]
struct Usage {
    /// The time up to which the parts are known.
    at: f64,
    /// The part of each class.
    classes: [f64; 3],
    /// The part of the queries of each class whose caller had no other in the queue. They leave before most of a caller
    /// with many.
    firsts: [f64; 3],
}

/// The time over which the usage is averaged, in microseconds.
const USAGE_TIME: f64 = 10e6;

/// The maximum of the factor by which predicted queries lengthen a wait.
const MAX_DELAY_FACTOR: f64 = 20.0;

impl Limiter {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, state: State::default(), start: Instant::now(), usage: Usage::default() }
    }

    /// Changes the pace. The learned state stays.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Admits up to the `wanted` number of queries of each class.
    pub(super) fn admit(&mut self, wanted: [u32; 3]) -> Admission {
        self.state.admit(self.pace, self.now(), wanted)
    }

    /// Records that a query leaves. `is_first` is whether its caller had no other of the class in the queue.
    pub(super) fn leaves(&mut self, class: Class, is_first: bool) {
        let now = self.now();
        let part = self.state.interval(self.pace, now) / USAGE_TIME;
        let Usage { at, classes, firsts } = &mut self.usage;
        let decay = ((*at - now) / USAGE_TIME).exp();
        for value in classes.iter_mut().chain(&mut *firsts) {
            *value *= decay;
        }
        *at = now;
        classes[class.index()] += part;
        if is_first {
            firsts[class.index()] += part;
        }
    }

    /// The time until a query of a class is admitted after `before` others. More important queries are predicted to
    /// leave before it, and, if it is not the `is_first` of its caller, the first ones of others.
    pub(super) fn wait(&self, class: Class, before: u32, is_first: bool) -> Duration {
        let now = self.now();
        let Usage { at, classes, firsts } = &self.usage;
        let mut used: f64 = classes[..class.index()].iter().sum();
        if !is_first {
            used += firsts[class.index()];
        }
        used *= ((*at - now) / USAGE_TIME).exp();
        let factor = 1.0 / (1.0 - used).max(1.0 / MAX_DELAY_FACTOR);
        let held = self.state.held(now, class);
        duration(held + (self.state.wait(self.pace, now, class, before) - held) * factor)
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
