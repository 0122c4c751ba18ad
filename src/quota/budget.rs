//! The budget of one Google project: queries wait in it for their turn.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

use super::{Class, fair_queue::Position, settings::QuotaSettings, shared::SharedBudget};
use crate::{
    flight::Flight,
    telemetry::{
        metrics::{QuotaDecision, QuotaMetrics, QuotaReading},
        traces::Trace,
    },
};

mod admitted;
mod line;
mod waiting;

pub use admitted::Admitted;
use line::{CallerKey, Line, QueuedQuery, Turn};
use waiting::{Queued, Waiting};

/// A query must have its turn this long before the deadline, or a tenth of the time left, so that it can be sent.
const MAX_MARGIN: Duration = Duration::from_millis(250);

/// The time after which the dispatcher asks the shared store again.
const MAX_SHARED_SLEEP: Duration = Duration::from_secs(1);

/// The budget of one Google project.
pub struct ProjectBudget(Arc<Shared>);

struct Shared {
    project: Arc<str>,
    metrics: QuotaMetrics,
    line: Mutex<Line>,
    /// Notified when the dispatcher must look at the line before the time at which the next query is admitted.
    changed: Notify,
    decisions: [[AtomicU64; 4]; 3],
    google_refusals: AtomicU64,
}

/// The result of asking for a turn.
enum Entry {
    /// It is the turn of the query.
    Turn(Turn),
    /// The query waits for its turn.
    Queued(Queued),
    /// The turn would come too late.
    Refused(Refused),
}

/// A query whose turn does not come before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The time until the turn would come.
    pub retry_after: Duration,
}

impl ProjectBudget {
    /// The budget of a project, which replicas share if there is a `shared` one. The empty text is for an unknown project.
    pub(super) fn new(
        project: &Arc<str>,
        settings: &QuotaSettings,
        shared: Option<Arc<SharedBudget>>,
        metrics: &QuotaMetrics,
    ) -> Self {
        Self(Arc::new(Shared {
            project: Arc::clone(project),
            metrics: metrics.clone(),
            line: Mutex::new(Line::new(settings, shared)),
            changed: Notify::new(),
            decisions: Default::default(),
            google_refusals: AtomicU64::new(0),
        }))
    }

    /// Replaces the settings. The learned state stays. `None` ends the pacing.
    ///
    /// Waiting queries have their turn at once if the mode changes or the pacing ends.
    pub(super) fn replace(&self, settings: Option<&QuotaSettings>) {
        self.0.lock().replace(settings);
        self.0.changed.notify_one();
    }

    /// The current values.
    pub(super) fn reading(&self) -> QuotaReading {
        let Shared { project, decisions, google_refusals, .. } = &*self.0;
        let mut line = self.0.lock();
        line.log_end_of_hold(project);
        let (configured_rate, rate) = line.limiter.rates();
        let sharing = line.limiter.sharing();
        QuotaReading {
            project: project.to_string(),
            is_shadow: line.is_shadow(),
            decisions: decisions.each_ref().map(|counts| counts.each_ref().map(|count| count.load(Relaxed))),
            google_refusals: google_refusals.load(Relaxed),
            limit: line.settings.as_ref().map_or(0, |settings| settings.limit),
            period: line.settings.as_ref().map_or(Duration::ZERO, |settings| settings.period),
            configured_rate,
            rate,
            available: line.limiter.available(),
            queued: line.queue.lengths().map(u64::from),
            hold: line.limiter.hold(),
            replicas: sharing.map(|(replicas, _)| replicas),
            is_away: sharing.is_some_and(|(_, is_away)| is_away),
        }
    }

    /// Waits for the turn of a query of this class for the callers of `flight`. A poll becomes a read when a call joins
    /// the flight.
    ///
    /// In shadow mode, the query does not wait and is not refused.
    ///
    /// # Errors
    ///
    /// The turn does not come before the deadline of the flight. This is known at once, unless more important queries
    /// or those of other callers come later.
    pub async fn acquire(&self, class: Class, flight: &Flight) -> Result<Admitted, Refused> {
        let caller = CallerKey(flight.caller().cloned());
        let (entry, is_shadow) = self.0.enter(class, &caller, flight);
        match entry {
            Entry::Turn(turn) => {
                self.0.count(class, QuotaDecision::Immediate);
                Ok(self.0.admitted(turn))
            }
            Entry::Refused(refused) => {
                self.0.count(class, QuotaDecision::Refused);
                if is_shadow { Ok(self.0.admitted(Turn::default())) } else { Err(refused) }
            }
            Entry::Queued(queued) => {
                let waiting = Waiting::new(&self.0, class, caller, queued);
                if !is_shadow {
                    return waiting.wait(flight).await;
                }
                let (caller, deadline) = (flight.caller().cloned(), Instant::now() + flight.time_left());
                let shadow = match class {
                    Class::Poll => Flight::polled_for(caller, Trace::default(), deadline),
                    Class::Cancel | Class::Read => Flight::started_by(caller, Trace::default(), deadline),
                };
                tokio::spawn(async move { waiting.wait(&shadow).await.map(drop) });
                Ok(self.0.admitted(Turn::default()))
            }
        }
    }
}

impl Shared {
    /// Asks for the turn of a query. Returns whether the budget is in shadow mode.
    fn enter(self: &Arc<Self>, class: Class, caller: &CallerKey, flight: &Flight) -> (Entry, bool) {
        let mut line = self.lock();
        line.log_end_of_hold(&self.project);
        let is_shadow = line.is_shadow();
        if let Some(turn) = line.turn_now(class) {
            return (Entry::Turn(turn), is_shadow);
        }
        let retry_after = line.estimate(class, caller);
        let refused = Entry::Refused(Refused { retry_after });
        let time_left = flight.time_left();
        let margin = MAX_MARGIN.min(time_left / 10);
        if retry_after > time_left - margin {
            return (refused, is_shadow);
        }
        let is_first_of_class = line.queue.lengths()[class.index()] == 0;
        let (sender, turn) = oneshot::channel();
        let query = QueuedQuery { turn: sender, calls_before: line.shared_calls };
        let Ok(position) = line.queue.push(class, caller.clone(), query) else { return (refused, is_shadow) };
        let has_dispatcher = std::mem::replace(&mut line.has_dispatcher, true);
        if has_dispatcher && !is_first_of_class {
            // Otherwise the store may admit the query at once, and the other replicas need not count it.
            line.limiter.set_queued(line.queue.lengths());
        }
        drop(line);
        flight.expect_turn(Some((Arc::clone(&self.project), Instant::now() + retry_after)));
        if !has_dispatcher {
            tokio::spawn(Arc::clone(self).dispatch());
        } else if is_first_of_class {
            self.changed.notify_one();
        }
        (Entry::Queued(Queued { position, turn, margin }), is_shadow)
    }

    /// Gives the waiting queries their turns, until none waits.
    async fn dispatch(self: Arc<Self>) {
        while let Some(wait) = self.give_turns().await {
            // Another replica may end a hold, or leave its turns, without a notice to this process.
            let is_shared = self.lock().limiter.sharing().is_some();
            tokio::select! {
                () = sleep(if is_shared { wait.min(MAX_SHARED_SLEEP) } else { wait }) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Gives turns to the queries that are admitted now. Returns the time until the next is admitted; `None` if no query
    /// waits.
    async fn give_turns(&self) -> Option<Duration> {
        let (shared, call) = {
            let mut line = self.lock();
            line.log_end_of_hold(&self.project);
            let wanted = line.queue.lengths();
            if wanted == [0; 3] {
                line.limiter.set_queued(wanted);
                line.has_dispatcher = false;
                return None;
            }
            match line.limiter.admit(wanted) {
                Ok(admission) => return line.give_turns(admission, None),
                Err(shared) => {
                    line.shared_calls += 1;
                    (shared, line.shared_calls)
                }
            }
        };
        let admission = shared.admit().await;
        self.lock().give_turns(admission, Some(call))
    }

    /// Takes a query out of the queue. Returns `false` if it has left.
    fn remove(&self, position: &Position<CallerKey>) -> bool {
        let mut line = self.lock();
        let is_removed = line.queue.remove(position).is_some();
        let queued = line.queue.lengths();
        line.limiter.set_queued(queued);
        drop(line);
        if queued == [0; 3] {
            // The dispatcher ends.
            self.changed.notify_one();
        }
        is_removed
    }

    /// The refusal of a query whose deadline is near.
    fn refused(&self, class: Class, caller: &CallerKey) -> Refused {
        Refused { retry_after: self.lock().estimate(class, caller) }
    }

    /// Whether a query in the queue would have an earlier turn as one of `caller`.
    fn is_better(&self, caller: &CallerKey, position: &Position<CallerKey>) -> bool {
        let line = self.lock();
        line.queue.ahead(position.class(), caller) < line.queue.before(position)
    }

    fn admitted(self: &Arc<Self>, turn: Turn) -> Admitted {
        Admitted { shared: Arc::clone(self), is_probe: turn.is_probe }
    }

    fn count(&self, class: Class, decision: QuotaDecision) {
        self.decisions[class.index()][decision as usize].fetch_add(1, Relaxed);
        self.metrics.decided(decision);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // A panic cannot leave the line in an inconsistent state.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
