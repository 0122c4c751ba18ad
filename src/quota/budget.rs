//! The budget of one Google project: queries wait in it for their turn.

use std::{
    fmt, future,
    hash::{Hash, Hasher},
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

use super::{
    Class,
    fair_queue::{FairQueue, Position},
    gcra::{Admission, Pace},
    limiter::Limiter,
    settings::{QuotaMode, QuotaSettings},
    shared::SharedBudget,
};
use crate::{
    caller::{Caller, Identity},
    flight::{DeadlinePassed, Flight},
    telemetry::{
        metrics::{QuotaDecision, QuotaMetrics, QuotaReading},
        traces::Trace,
    },
};

/// The hold after a refusal by Google without `Retry-After`. Google asks for a minute without queries.
const DEFAULT_HOLD: Duration = Duration::from_secs(60);

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

struct Line {
    /// `None` after the section of the project was removed. Queries are then not paced.
    settings: Option<QuotaSettings>,
    limiter: Limiter,
    queue: FairQueue<CallerKey, QueuedQuery>,
    /// The number of calls of the shared store that were begun.
    shared_calls: u64,
    /// Whether the dispatcher runs. It ends when no query waits.
    has_dispatcher: bool,
    /// Whether the start of a hold was logged, and its end was not.
    is_held: bool,
}

/// A caller as the owner of a queue. Callers with one identity are equal.
#[derive(Clone)]
struct CallerKey(Option<Caller>);

/// A query in the queue.
struct QueuedQuery {
    turn: oneshot::Sender<Turn>,
    /// The number of calls of the shared store that were begun before.
    calls_before: u64,
}

/// The turn of a query.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// Whether the query probes a hold.
    is_probe: bool,
    /// Whether the query waited for nothing but the answer of the shared store.
    is_immediate: bool,
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

/// A query's position in the queue.
struct Queued {
    position: Position<CallerKey>,
    turn: oneshot::Receiver<Turn>,
    /// The time before the deadline at which the wait ends.
    margin: Duration,
}

/// A query that waits. A drop removes it from the queue.
struct Waiting {
    shared: Arc<Shared>,
    class: Class,
    caller: CallerKey,
    since: Instant,
    queued: Queued,
    is_decided: bool,
}

/// The end of a wait in one place of the queue.
enum Event {
    /// The turn came.
    Turn(Turn),
    /// A call joined the flight of a poll.
    Raised,
    /// Another caller joined the flight.
    Joined(Caller),
}

/// A query that may be sent. Report Google's response to it.
#[must_use]
pub struct Admitted {
    shared: Arc<Shared>,
    is_probe: bool,
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
        let line = Line {
            settings: Some(settings.clone()),
            limiter: Limiter::new(pace(settings), shared),
            queue: FairQueue::new(),
            shared_calls: 0,
            has_dispatcher: false,
            is_held: false,
        };
        Self(Arc::new(Shared {
            project: Arc::clone(project),
            metrics: metrics.clone(),
            line: Mutex::new(line),
            changed: Notify::new(),
            decisions: Default::default(),
            google_refusals: AtomicU64::new(0),
        }))
    }

    /// Replaces the settings. The learned state stays. `None` ends the pacing.
    ///
    /// Waiting queries have their turn at once if the mode changes or the pacing ends.
    pub(super) fn replace(&self, settings: Option<&QuotaSettings>) {
        let mut line = self.0.lock();
        let mode = |settings: Option<&QuotaSettings>| settings.map(|settings| settings.mode);
        let is_other_mode = mode(line.settings.as_ref()) != mode(settings);
        line.settings = settings.cloned();
        if let Some(settings) = settings {
            line.limiter.set_pace(pace(settings));
        }
        if is_other_mode {
            line.release_all();
        }
        drop(line);
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
                let shared = Arc::clone(&self.0);
                let since = Instant::now();
                let waiting = Waiting { shared, class, caller, since, queued, is_decided: false };
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

impl Line {
    fn is_shadow(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.mode == QuotaMode::Shadow)
    }

    /// The turn of a query that need not wait.
    fn turn_now(&mut self, class: Class) -> Option<Turn> {
        if self.settings.is_none() {
            return Some(Turn::default());
        }
        if self.queue.has_before(class) {
            return None;
        }
        let mut wanted = [0; 3];
        wanted[class.index()] = 1;
        // The dispatcher asks the shared store.
        let admission = self.limiter.admit(wanted).ok()?;
        let turn = Turn { is_probe: admission.is_probe, is_immediate: true };
        (admission.admitted == wanted).then_some(turn)
    }

    /// The time until the turn of a new query would come, if no other query comes later and leaves before it.
    fn estimate(&self, class: Class, caller: &CallerKey) -> Duration {
        self.limiter.wait(class, self.queue.ahead(class, caller))
    }

    /// As [`Shared::give_turns`], to the queries of an admission. `call` is the number of its call of the shared store.
    fn give_turns(&mut self, admission: Admission, call: Option<u64>) -> Option<Duration> {
        for class in Class::ALL {
            for _ in 0..admission.admitted[class.index()] {
                self.give_turn(class, admission.is_probe && class == Class::Cancel, call);
            }
        }
        let queued = self.queue.lengths();
        self.limiter.set_queued(queued);
        let waits = queued.into_iter().zip(admission.wait);
        let next = waits.filter(|(length, _)| *length > 0).map(|(_, wait)| wait).reduce(f64::min);
        self.has_dispatcher = next.is_some();
        next.map(super::limiter::duration)
    }

    /// Gives a turn to the next query of a class.
    fn give_turn(&mut self, class: Class, is_probe: bool, call: Option<u64>) {
        if let Some(QueuedQuery { turn, calls_before }) = self.queue.pop(class) {
            let is_immediate = call == Some(calls_before + 1);
            // A query without a receiver was dropped after this lock was taken. Its turn is lost.
            let _ = turn.send(Turn { is_probe, is_immediate });
        }
    }

    /// Gives all waiting queries a turn.
    fn release_all(&mut self) {
        for class in Class::ALL {
            for _ in 0..self.queue.lengths()[class.index()] {
                self.give_turn(class, false, None);
            }
        }
        self.limiter.set_queued(self.queue.lengths());
    }

    fn log_end_of_hold(&mut self, project: &str) {
        if self.is_held && self.limiter.hold().is_zero() {
            self.is_held = false;
            let (_, rate) = self.limiter.rates();
            tracing::info!(project, rate, "the hold of a project's queries ended");
        }
    }
}

impl Waiting {
    async fn wait(mut self, flight: &Flight) -> Result<Admitted, Refused> {
        let result = self.turn(flight).await;
        flight.expect_turn(None);
        result
    }

    async fn turn(&mut self, flight: &Flight) -> Result<Admitted, Refused> {
        loop {
            let Self { class, queued, .. } = &mut *self;
            let is_poll = *class == Class::Poll;
            let raised =
                async { if is_poll { flight.joined_by_call().await } else { future::pending().await } };
            let event = async {
                tokio::select! {
                    biased;
                    // The sender is dropped only after the turn was sent.
                    turn = &mut queued.turn => Event::Turn(turn.unwrap_or_default()),
                    () = raised => Event::Raised,
                    caller = flight.joiner() => Event::Joined(caller),
                }
            };
            let event = flight.begin_before(queued.margin, event).await;
            let (class, caller) = match &event {
                Ok(Event::Turn(turn)) => return Ok(self.admitted(*turn)),
                Ok(Event::Raised) => (Class::Read, self.caller.clone()),
                Ok(Event::Joined(caller)) => (self.class, CallerKey(Some(caller.clone()))),
                Err(DeadlinePassed) => (self.class, self.caller.clone()),
            };
            if matches!(event, Ok(Event::Joined(_))) && !self.shared.is_better(&caller, &self.queued.position)
            {
                continue;
            }
            // If it is no longer in the queue, its turn came at the same time.
            if !self.shared.remove(&self.queued.position)
                && let Ok(turn) = self.queued.turn.try_recv()
            {
                return Ok(self.admitted(turn));
            }
            (self.class, self.caller) = (class, caller);
            let entry = match event {
                Ok(_) => self.shared.enter(self.class, &self.caller, flight).0,
                Err(DeadlinePassed) => Entry::Refused(self.shared.refused(self.class, &self.caller)),
            };
            match entry {
                Entry::Turn(turn) => return Ok(self.admitted(turn)),
                Entry::Queued(queued) => self.queued = queued,
                Entry::Refused(refused) => {
                    self.decide(QuotaDecision::Refused);
                    return Err(refused);
                }
            }
        }
    }

    fn admitted(&mut self, turn: Turn) -> Admitted {
        if turn.is_immediate {
            self.decide(QuotaDecision::Immediate);
        } else {
            self.decide(QuotaDecision::Delayed);
            self.shared.metrics.waited(self.class.index(), self.since.elapsed());
        }
        self.shared.admitted(turn)
    }

    fn decide(&mut self, decision: QuotaDecision) {
        self.is_decided = true;
        self.shared.count(self.class, decision);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_decided {
            return;
        }
        self.shared.count(self.class, QuotaDecision::Abandoned);
        self.shared.remove(&self.queued.position);
    }
}

impl Admitted {
    /// Google refused the query for the project's quota. `retry_after` is its `Retry-After`.
    pub fn refused_by_google(self, retry_after: Option<Duration>) {
        self.shared.google_refusals.fetch_add(1, Relaxed);
        let mut line = self.shared.lock();
        if line.settings.is_none() || !line.limiter.refused(retry_after.unwrap_or(DEFAULT_HOLD)) {
            return;
        }
        line.is_held = true;
        let ((_, rate), hold, is_shadow) = (line.limiter.rates(), line.limiter.hold(), line.is_shadow());
        drop(line);
        let project = &*self.shared.project;
        if is_shadow {
            tracing::warn!(project, rate, ?hold, "Google refused a query for the project's quota");
        } else {
            tracing::warn!(
                project,
                rate,
                ?hold,
                "Google refused a query for the project's quota: gets, lists and polls are held"
            );
        }
    }

    /// Google answered the query, with a result or with another error.
    pub fn answered(self) {
        if self.is_probe {
            let mut line = self.shared.lock();
            line.limiter.probe_answered();
            line.log_end_of_hold(&self.shared.project);
            drop(line);
            self.shared.changed.notify_one();
        }
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("is_probe", &self.is_probe).finish_non_exhaustive()
    }
}

impl PartialEq for CallerKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for CallerKey {}

impl Hash for CallerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl CallerKey {
    fn identity(&self) -> Option<&Identity> {
        self.0.as_ref().map(Caller::identity)
    }
}

fn pace(settings: &QuotaSettings) -> Pace {
    Pace::new(settings.limit, settings.period, settings.burst())
}

#[cfg(test)]
mod tests;
