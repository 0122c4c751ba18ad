//! Identical calls in flight at the same time share one call upstream.
//!
//! The upstream call runs in a task of its own, so that it is carried to its end when those who asked for
//! it hang up; each of them waits for its answer as long as its own deadline allows.

use std::{
    collections::{HashMap, hash_map},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::Shared};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    amapi::{Outcome, error::Error},
    audit::Record,
    budget::Budget,
    name::OperationName,
};

/// The calls in flight of one kind, by the operation they are about.
pub struct Flights<T> {
    in_flight: Arc<Mutex<HashMap<OperationName, Flight<T>>>>,
    upstream_timeout: Duration,
    tasks: TaskTracker,
}

/// One call upstream. Clones are the same.
#[derive(Clone)]
struct Flight<T> {
    budget: Arc<Budget>,
    answer: Shared<oneshot::Receiver<Outcome<T>>>,
}

/// A place in a flight.
struct Boarded<T> {
    flight: Flight<T>,
    is_shared: bool,
}

/// How a call upstream ended for one of those who shared it.
#[derive(Debug, Clone)]
pub struct Joined<T> {
    /// Its outcome; when this caller's deadline passed first, that and nothing of what was sent.
    pub outcome: Outcome<T>,
    /// It was in flight already when this caller came.
    pub is_shared: bool,
}

impl<T> Flights<T>
where
    T: Clone + Send + Sync + 'static,
{
    /// No calls yet; each will be a task of `tasks`, and have `upstream_timeout`.
    #[must_use]
    pub fn new(upstream_timeout: Duration, tasks: TaskTracker) -> Self {
        Self { in_flight: Arc::default(), upstream_timeout, tasks }
    }

    /// The outcome of the call about `name` that is in flight, else of the one that `start` begins;
    /// [`Error::DeadlineExceeded`] when this caller's deadline passes first. Its `record`, if it has one, is told
    /// of the flight; when it says by then that the caller is gone and needs no answer, the outcome is waited for
    /// all the same.
    pub async fn join<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        record: Option<&Record>,
        start: impl FnOnce(Arc<Budget>) -> F,
    ) -> Joined<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        if deadline <= Instant::now() {
            return Joined { outcome: late("before anything was sent to the upstream"), is_shared: false };
        }
        let Boarded { flight: Flight { budget, mut answer }, is_shared } = self.board(name, deadline, start);
        if let Some(record) = record {
            record.boarded(&budget, is_shared);
        }
        let outcome = match timeout_at(deadline, &mut answer).await {
            Ok(answer) => answer,
            Err(_) if record.is_some_and(Record::has_hung_up) => answer.await,
            Err(_) if budget.sent().attempts == 0 => Ok(late("before anything was sent to the upstream")),
            Err(_) => {
                budget.leave_behind();
                Ok(late("before the upstream answered"))
            }
        };
        // The task was lost when it ends without a word.
        Joined { outcome: outcome.unwrap_or_else(|_| Outcome::unsent(Error::Lost)), is_shared }
    }

    /// Lets nobody else join the call about `name` that may be in flight: its answer may be outdated.
    pub fn forget(&self, name: &OperationName) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn board<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        start: impl FnOnce(Arc<Budget>) -> F,
    ) -> Boarded<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match in_flight.entry(name.clone()) {
            hash_map::Entry::Occupied(place) => {
                let flight = place.get().clone();
                flight.budget.extend(deadline);
                return Boarded { flight, is_shared: true };
            }
            hash_map::Entry::Vacant(place) => place,
        };
        let budget = Arc::new(Budget::new(deadline, self.upstream_timeout));
        let (land, answer) = oneshot::channel();
        let flight = Flight { budget: Arc::clone(&budget), answer: answer.shared() };
        place.insert(flight.clone());
        drop(in_flight);

        // Leaves the map also when the work panics: a later call must not wait for one that is gone.
        let in_flight = Arc::clone(&self.in_flight);
        let entry = Entry { in_flight, name: name.clone(), budget: Arc::clone(&budget) };
        // Boxed, since a task is moved as a whole when it begins and when it ends.
        let work = Box::pin(start(budget));
        self.tasks.spawn(async move {
            let outcome = work.await;
            drop(entry);
            // Nobody waits any more when all have hung up.
            let _ = land.send(outcome);
        });
        Boarded { flight, is_shared: false }
    }
}

fn late<T>(while_doing: &'static str) -> Outcome<T> {
    Outcome::unsent(Error::DeadlineExceeded { while_doing })
}

/// A flight's place in the map, given up when dropped.
struct Entry<T> {
    in_flight: Arc<Mutex<HashMap<OperationName, Flight<T>>>>,
    name: OperationName,
    budget: Arc<Budget>,
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        // After `forget`, the place may be another flight's.
        if let hash_map::Entry::Occupied(place) = in_flight.entry(self.name.clone())
            && Arc::ptr_eq(&place.get().budget, &self.budget)
        {
            place.remove();
        }
    }
}

#[cfg(test)]
mod tests;
