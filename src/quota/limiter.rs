//! The limiter of one project: in this process, or shared with other replicas.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Class,
    gcra::{Admission, Pace, State, micros},
    shared::{SharedBudget, SharedSnapshot},
};

/// Admits the queries of one project at its pace.
pub(super) struct Limiter {
    pace: Pace,
    source: Source,
}

/// The state of a limiter.
enum Source {
    /// The state of this process.
    Own {
        state: State,
        /// The zero of the clock of `state`.
        start: Instant,
    },
    /// The state that all replicas share.
    Shared(Arc<SharedBudget>),
}

/// The state of a limiter now.
struct Now {
    state: State,
    pace: Pace,
    now: f64,
    /// The values of the other replicas. `None` if the budget is not shared.
    shared: Option<SharedSnapshot>,
}

/// Queries that the shared store admits.
pub(super) struct SharedAdmission {
    budget: Arc<SharedBudget>,
    pace: Pace,
    wanted: [u32; 3],
}

impl Limiter {
    /// A limiter whose state is that of this process, or that of `shared`.
    pub(super) fn new(pace: Pace, shared: Option<Arc<SharedBudget>>) -> Self {
        let own = || Source::Own { state: State::default(), start: Instant::now() };
        Self { pace, source: shared.map_or_else(own, Source::Shared) }
    }

    /// Changes the pace. The learned state stays.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        if let Source::Own { state, start } = &mut self.source {
            state.change_pace(micros(start.elapsed()), self.pace, pace);
        }
        self.pace = pace;
    }

    /// Admits up to the `wanted` number of queries of each class.
    ///
    /// # Errors
    ///
    /// The shared store admits them. Await [`SharedAdmission::admit`].
    pub(super) fn admit(&mut self, wanted: [u32; 3]) -> Result<Admission, SharedAdmission> {
        match &mut self.source {
            Source::Own { state, start } => Ok(state.admit(self.pace, micros(start.elapsed()), wanted)),
            Source::Shared(budget) => budget
                .admit_while_away(self.pace, wanted)
                .ok_or_else(|| SharedAdmission { budget: Arc::clone(budget), pace: self.pace, wanted }),
        }
    }

    /// The number of queries that wait in this process, which the other replicas see.
    pub(super) fn set_queued(&self, queued: [u32; 3]) {
        if let Source::Shared(budget) = &self.source {
            budget.set_queued(queued);
        }
    }

    /// The time until a query of a class is admitted after `before` others of this process.
    pub(super) fn wait(&self, class: Class, before: u32) -> Duration {
        let Now { state, pace, now, shared } = self.now();
        let elsewhere = shared.map_or(0, |shared| before_elsewhere(&shared, class, before));
        duration(state.wait(pace, now, class, before.saturating_add(elsewhere)))
    }

    /// Google refused a query for the quota. Returns whether a hold begins.
    pub(super) fn refused(&mut self, hold: Duration) -> bool {
        let is_new = self.hold().is_zero();
        match &mut self.source {
            Source::Own { state, start } => state.refused(self.pace, micros(start.elapsed()), micros(hold)),
            Source::Shared(budget) => budget.refused(self.pace, micros(hold)),
        }
        is_new
    }

    /// Google answered a cancel that probed the hold.
    pub(super) fn probe_answered(&mut self) {
        match &mut self.source {
            Source::Own { state, start } => state.probe_answered(micros(start.elapsed())),
            Source::Shared(budget) => budget.probe_answered(),
        }
    }

    /// The time until the hold ends. Zero if there is none.
    pub(super) fn hold(&self) -> Duration {
        let Now { state, now, .. } = self.now();
        duration((state.hold_until - now).max(0.0))
    }

    /// The configured rate and the rate now, in queries per second. The rate now is that of all replicas, or that of this
    /// process while the shared store is away.
    pub(super) fn rates(&self) -> (f64, f64) {
        let Now { state, pace, now, .. } = self.now();
        let rate = |interval: f64| 1e6 / interval;
        (rate(self.pace.interval), rate(state.interval(pace, now)))
    }

    /// The number of cancels that could leave at once.
    pub(super) fn available(&self) -> f64 {
        let Now { state, pace, now, .. } = self.now();
        if state.hold_until <= now { (pace.burst - state.ahead(pace, now)).max(0.0) } else { 0.0 }
    }

    /// The number of replicas that share the budget, and whether the shared store is away. `None` if it is not shared.
    pub(super) fn sharing(&self) -> Option<(u32, bool)> {
        self.now().shared.map(|shared| (shared.replicas, shared.is_away))
    }

    fn now(&self) -> Now {
        match &self.source {
            Source::Own { state, start } => {
                Now { state: *state, pace: self.pace, now: micros(start.elapsed()), shared: None }
            }
            Source::Shared(budget) => {
                let shared = budget.snapshot();
                let pace = if shared.is_away { self.pace.divided_by(shared.replicas) } else { self.pace };
                Now { state: shared.state, pace, now: shared.now, shared: Some(shared) }
            }
        }
    }
}

impl SharedAdmission {
    /// Admits the queries: by the store, or by this process if the store is away.
    pub(super) async fn admit(self) -> Admission {
        self.budget.admit(self.pace, self.wanted).await
    }
}

/// The number of queries of the other replicas that come before one of this process: those of more important classes,
/// and as many turns of its own class as this process has until then for each other replica.
fn before_elsewhere(shared: &SharedSnapshot, class: Class, before: u32) -> u32 {
    if shared.is_away {
        return 0;
    }
    let queued = &shared.queued_elsewhere;
    let more_important =
        queued[..class.index()].iter().fold(0, |sum: u32, number| sum.saturating_add(*number));
    let turns = before.saturating_add(1).saturating_mul(shared.replicas.saturating_sub(1));
    more_important.saturating_add(queued[class.index()].min(turns))
}

/// A number of microseconds, rounded up, so that nothing is early.
pub(super) fn duration(micros: f64) -> Duration {
    Duration::from_micros(micros.ceil() as u64)
}
