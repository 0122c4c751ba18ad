//! The queries of a project that wait, and the state that decides their turns.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    caller::{Caller, Identity},
    quota::{
        Class,
        fair_queue::FairQueue,
        gcra::{Admission, Pace},
        limiter::{self, Limiter},
        settings::{QuotaMode, QuotaSettings},
        shared::SharedBudget,
    },
};

/// The queue of a project, with its limiter.
pub(super) struct Line {
    /// `None` after the section of the project was removed. Queries are then not paced.
    pub(super) settings: Option<QuotaSettings>,
    pub(super) limiter: Limiter,
    pub(super) queue: FairQueue<CallerKey, QueuedQuery>,
    /// The number of calls of the shared store that were begun.
    pub(super) shared_calls: u64,
    /// Whether the dispatcher runs. It ends when no query waits.
    pub(super) has_dispatcher: bool,
    /// Whether the start of a hold was logged, and its end was not.
    pub(super) is_held: bool,
}

/// A caller as the owner of a queue. Callers with one identity are equal.
#[derive(Clone)]
pub(super) struct CallerKey(pub(super) Option<Caller>);

/// A query in the queue.
pub(super) struct QueuedQuery {
    pub(super) turn: oneshot::Sender<Turn>,
    /// The number of calls of the shared store that were begun before.
    pub(super) calls_before: u64,
}

/// The turn of a query.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    /// Whether the query probes a hold.
    pub(super) is_probe: bool,
    /// Whether the query waited for nothing but the answer of the shared store.
    pub(super) is_immediate: bool,
}

impl Line {
    /// An empty line with these settings. `shared` is the budget that replicas share.
    pub(super) fn new(settings: &QuotaSettings, shared: Option<Arc<SharedBudget>>) -> Self {
        Self {
            settings: Some(settings.clone()),
            limiter: Limiter::new(pace(settings), shared),
            queue: FairQueue::new(),
            shared_calls: 0,
            has_dispatcher: false,
            is_held: false,
        }
    }

    /// Replaces the settings. Gives all waiting queries a turn if the mode changes or the pacing ends.
    pub(super) fn replace(&mut self, settings: Option<&QuotaSettings>) {
        let mode = |settings: Option<&QuotaSettings>| settings.map(|settings| settings.mode);
        let is_other_mode = mode(self.settings.as_ref()) != mode(settings);
        self.settings = settings.cloned();
        if let Some(settings) = settings {
            self.limiter.set_pace(pace(settings));
        }
        if is_other_mode {
            self.release_all();
        }
    }

    pub(super) fn is_shadow(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.mode == QuotaMode::Shadow)
    }

    /// The turn of a query that need not wait.
    pub(super) fn turn_now(&mut self, class: Class) -> Option<Turn> {
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
    pub(super) fn estimate(&self, class: Class, caller: &CallerKey) -> Duration {
        self.limiter.wait(class, self.queue.ahead(class, caller))
    }

    /// As [`super::Shared::give_turns`], to the queries of an admission. `call` is the number of its call of the shared
    /// store.
    pub(super) fn give_turns(&mut self, admission: Admission, call: Option<u64>) -> Option<Duration> {
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
        next.map(limiter::duration)
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

    pub(super) fn log_end_of_hold(&mut self, project: &str) {
        if self.is_held && self.limiter.hold().is_zero() {
            self.is_held = false;
            let (_, rate) = self.limiter.rates();
            tracing::info!(project, rate, "the hold of a project's queries ended");
        }
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
