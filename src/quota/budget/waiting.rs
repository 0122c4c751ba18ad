//! The wait of a query for its turn.

use std::{future, sync::Arc};

use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};

use super::{
    Admitted, Entry, Refused, Shared,
    line::{CallerKey, Turn},
};
use crate::{
    caller::Caller,
    flight::{DeadlinePassed, Flight},
    quota::{Class, fair_queue::Position},
    telemetry::metrics::QuotaDecision,
};

/// A query's position in the queue.
pub(super) struct Queued {
    pub(super) position: Position<CallerKey>,
    pub(super) turn: oneshot::Receiver<Turn>,
    /// The time before the deadline at which the wait ends.
    pub(super) margin: Duration,
}

/// A query that waits. A drop removes it from the queue.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    class: Class,
    caller: CallerKey,
    since: Instant,
    queued: Queued,
    is_decided: bool,
}

/// The end of a wait in one position of the queue.
enum Event {
    /// The turn came.
    Turn(Turn),
    /// A call joined the flight of a poll.
    Raised,
    /// Another caller joined the flight.
    Joined(Caller),
}

impl Waiting {
    pub(super) fn new(shared: &Arc<Shared>, class: Class, caller: CallerKey, queued: Queued) -> Self {
        let (shared, since) = (Arc::clone(shared), Instant::now());
        Self { shared, class, caller, since, queued, is_decided: false }
    }

    /// Waits for the turn, for the callers of `flight`.
    pub(super) async fn wait(mut self, flight: &Flight) -> Result<Admitted, Refused> {
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
