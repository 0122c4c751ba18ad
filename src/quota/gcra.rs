//! The generic cell rate algorithm (GCRA) that paces a project's queries, with a learned rate and a hold.
//!
//! `gcra.lua` has the same algorithm for a state that replicas share. Both compute with 64-bit floats in the same order, so
//! that they have equal results. A test compares them.
//!
//! The theoretical arrival time (TAT) is the time until which the admitted queries use the rate. A query moves it by the
//! interval, which is the period ÷ (limit − burst) ÷ factor. A query is admitted if the TAT is then at most its class's
//! tolerance ahead. Any window of one period therefore has at most `limit` queries: `limit − burst` at the rate, and `burst`.
//!
//! A change of the factor keeps the number of queries that may leave at once. The bound therefore holds for every factor.

use std::time::Duration;

use super::Class;

/// The factor of the rate after a refusal by Google.
const DECREASE: f64 = 0.7;

/// The lower bound of the learned factor.
const MIN_FACTOR: f64 = 0.05;

/// The growth of the learned factor in a microsecond after the hold: a twentieth of the configured rate in a minute.
const RECOVERY: f64 = 0.05 / 60e6;

/// The time between two cancels that probe a hold. The first is sent at once, because a cancel may have a short deadline.
const PROBE_INTERVAL: f64 = 5e6;

/// The minimum hold after a refusal, so that the refusals of concurrent queries decrease the rate once.
const MIN_HOLD: f64 = 1e6;

/// The maximum hold after a refusal: an hour, whatever `Retry-After` Google sends.
const MAX_HOLD: f64 = 3600e6;

/// The part of a query by which the TAT may be ahead of the tolerance, because times are rounded. The bound of a window
/// holds, because the number of queries is an integer.
const ROUNDING: f64 = 1e-3;

/// The pace of a project's queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The interval between two queries at the configured rate, in microseconds.
    pub interval: f64,
    /// The number of queries that may leave at once. At least 1.
    pub burst: f64,
}

impl Pace {
    /// The pace of at most `limit` queries in any window of `period`. `burst` is at least 1 and below `limit`.
    #[must_use]
    pub fn new(limit: u32, period: Duration, burst: u32) -> Self {
        let rate = f64::from(limit.saturating_sub(burst).max(1));
        Self { interval: micros(period) / rate, burst: f64::from(burst.max(1)) }
    }

    /// The pace of one of `replicas` that divide the rate and the burst.
    #[must_use]
    pub fn divided_by(self, replicas: u32) -> Self {
        let replicas = f64::from(replicas.max(1));
        Self { interval: self.interval * replicas, burst: (self.burst / replicas).max(1.0) }
    }

    /// The number of intervals by which the TAT may be ahead after a query of a class: the burst for cancels, two thirds
    /// of it for reads, and a third for polls. At least one, so that every class has queries.
    fn tolerance(self, class: Class) -> f64 {
        let part = match class {
            Class::Cancel => self.burst,
            Class::Read => self.burst * 2.0 / 3.0,
            Class::Poll => self.burst / 3.0,
        };
        part.max(1.0)
    }
}

/// The state of a project's limiter. Times are in microseconds of any clock that does not go back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// The theoretical arrival time.
    pub tat: f64,
    /// The factor of the configured rate, in `MIN_FACTOR..=1`, at `factor_at`. It grows from then on.
    pub factor: f64,
    /// The time from which the factor grows and can decrease again: the end of the hold of the latest decrease, without
    /// probes.
    pub factor_at: f64,
    /// The end of the hold. Until then, reads and polls are not admitted.
    pub hold_until: f64,
    /// The time of the next cancel that probes the hold.
    pub probe_at: f64,
}

/// The result of [`State::admit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admission {
    /// The number of admitted queries by class.
    pub admitted: [u32; 3],
    /// Whether the last admitted cancel probes the hold.
    pub is_probe: bool,
    /// The time until the next query of each class would be admitted, in microseconds, if no other is before it.
    pub wait: [f64; 3],
}

impl Default for State {
    fn default() -> Self {
        Self { tat: 0.0, factor: 1.0, factor_at: 0.0, hold_until: 0.0, probe_at: 0.0 }
    }
}

impl State {
    /// The learned factor of the rate.
    #[must_use]
    pub fn factor(&self, now: f64) -> f64 {
        (self.factor + RECOVERY * (now - self.factor_at).max(0.0)).min(1.0)
    }

    /// The time between two queries at the learned rate, in microseconds.
    #[must_use]
    pub fn interval(&self, pace: Pace, now: f64) -> f64 {
        pace.interval / self.factor(now)
    }

    /// The number of queries that the TAT is ahead.
    #[must_use]
    pub fn ahead(&self, pace: Pace, now: f64) -> f64 {
        (self.tat - now).max(0.0) / self.interval(pace, now)
    }

    /// Admits up to the `wanted` number of queries of each class, in the order of the classes.
    pub fn admit(&mut self, pace: Pace, now: f64, wanted: [u32; 3]) -> Admission {
        let mut admission = Admission { admitted: [0; 3], is_probe: false, wait: [0.0; 3] };
        // The TAT is further ahead only if the clock was set back or the pace changed.
        self.tat = self.tat.min(now + (pace.burst + ROUNDING) * self.interval(pace, now));
        let mut ahead = self.ahead(pace, now);
        for class in Class::ALL {
            let index = class.index();
            while admission.admitted[index] < wanted[index]
                && self.held(now, class) <= 0.0
                && ahead + 1.0 <= pace.tolerance(class) + ROUNDING
            {
                ahead += 1.0;
                admission.admitted[index] += 1;
                if self.hold_until > now {
                    self.probe_at = now + PROBE_INTERVAL;
                    admission.is_probe = true;
                }
            }
        }
        if admission.admitted != [0; 3] {
            self.tat = now + ahead * self.interval(pace, now);
        }
        admission.wait = Class::ALL.map(|class| self.wait(pace, now, class, 0));
        admission
    }

    /// The time until a query of a class is admitted after `before` others, in microseconds.
    ///
    /// A hold delays a cancel only until the next probe, because the answer to the probe may end the hold.
    #[must_use]
    pub fn wait(&self, pace: Pace, now: f64, class: Class, before: u32) -> f64 {
        let held = self.held(now, class);
        let interval = self.interval(pace, now);
        let ahead = (self.ahead(pace, now) - held / interval).max(0.0);
        let excess = ahead + f64::from(before) + 1.0 - pace.tolerance(class);
        held + excess.max(0.0) * interval
    }

    /// The time for which a hold delays a class, in microseconds.
    #[must_use]
    pub fn held(&self, now: f64, class: Class) -> f64 {
        let until = match class {
            Class::Cancel => self.probe_at.min(self.hold_until),
            Class::Read | Class::Poll => self.hold_until,
        };
        (until - now).max(0.0)
    }

    /// Google refused a query for the quota. Reads and polls are held for `hold` microseconds.
    ///
    /// The refusals in the time of one hold decrease the rate once, also after a probe has ended the hold. Otherwise, if
    /// Google refuses reads alone, each cancel would reopen them, and their refusals would soon leave no rate for cancels.
    pub fn refused(&mut self, pace: Pace, now: f64, hold: f64) {
        let end = now + hold.clamp(MIN_HOLD, MAX_HOLD);
        if self.hold_until > now {
            self.hold_until = self.hold_until.max(end);
            self.factor_at = self.hold_until;
            return;
        }
        if self.factor_at <= now {
            let ahead = self.ahead(pace, now);
            self.factor = (self.factor(now) * DECREASE).max(MIN_FACTOR);
            self.tat = now + ahead * (pace.interval / self.factor);
            self.factor_at = end;
        }
        (self.hold_until, self.probe_at) = (end, now);
    }

    /// Google answered a cancel that probed the hold. The hold ends.
    pub fn probe_answered(&mut self, now: f64) {
        self.hold_until = self.hold_until.min(now);
    }
}

/// A duration in microseconds.
#[must_use]
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The parts of a [`State`] that do not depend on a clock, for a state that continues elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remaining {
    /// The time until the TAT, in microseconds. Not positive if it is past, as below.
    pub tat: f64,
    /// The learned factor now.
    pub factor: f64,
    /// The time until the end of the hold.
    pub hold: f64,
    /// The time until the next probe.
    pub probe: f64,
}

impl State {
    /// Continues at another pace. The number of queries that the TAT is ahead stays.
    pub fn change_pace(&mut self, now: f64, from: Pace, to: Pace) {
        self.tat = now + self.ahead(from, now) * self.interval(to, now);
    }

    /// The parts that do not depend on the clock.
    #[must_use]
    pub fn remaining(&self, now: f64) -> Remaining {
        Remaining {
            tat: self.tat - now,
            factor: self.factor(now),
            hold: self.hold_until - now,
            probe: self.probe_at - now,
        }
    }

    /// Continues a state that was used elsewhere, in addition to this one. The stricter parts of both apply.
    pub fn restore(&mut self, now: f64, elsewhere: Remaining) {
        self.tat = self.tat.max(now + elsewhere.tat);
        self.factor = self.factor(now).min(elsewhere.factor);
        self.hold_until = self.hold_until.max(now + elsewhere.hold);
        self.factor_at = now.max(self.hold_until);
        self.probe_at = self.probe_at.max(now + elsewhere.probe);
    }

    /// Moves all times by `microseconds`, to those of another clock.
    pub fn shift(&mut self, microseconds: f64) {
        for time in [&mut self.tat, &mut self.factor_at, &mut self.hold_until, &mut self.probe_at] {
            *time += microseconds;
        }
    }
}

#[cfg(test)]
mod tests;
