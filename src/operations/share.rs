//! Identical calls in flight at the same time share one call upstream.
//!
//! The upstream call runs in a task of its own, so that it is carried to its end when those who asked for
//! it hang up; each of them waits for its answer as long as its own deadline allows.

use std::{
    collections::HashMap,
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
    budget::Budget,
    name::OperationName,
};

/// The calls in flight of one kind, by the operation they are about.
pub struct Flights<T> {
    in_flight: Arc<Mutex<HashMap<OperationName, Flight<T>>>>,
    upstream_timeout: Duration,
    tasks: TaskTracker,
}

/// One call upstream.
#[derive(Clone)]
struct Flight<T> {
    budget: Arc<Budget>,
    answer: Shared<oneshot::Receiver<Outcome<T>>>,
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
    /// [`Error::DeadlineExceeded`] when this caller's deadline passes first. Then `is_free` is asked whether
    /// the caller is gone and needs no answer: the outcome is waited for all the same, for the record.
    pub async fn join<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        is_free: impl Fn() -> bool,
        start: impl FnOnce(Arc<Budget>) -> F,
    ) -> Joined<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        if deadline <= Instant::now() {
            return Joined { outcome: Outcome::unsent(late(false)), is_shared: false };
        }
        let (Flight { budget, mut answer }, is_shared) = self.board(name, deadline, start);
        let outcome = match timeout_at(deadline, &mut answer).await {
            Ok(answer) => answer,
            Err(_) if is_free() => answer.await,
            Err(_) => return Joined { outcome: Outcome::unsent(late(budget.has_sent())), is_shared },
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
    ) -> (Flight<T>, bool)
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = in_flight.get(name) {
            flight.budget.extend(deadline);
            return (flight.clone(), true);
        }
        let budget = Arc::new(Budget::new(deadline, self.upstream_timeout));
        let (land, answer) = oneshot::channel();
        let flight = Flight { budget: Arc::clone(&budget), answer: answer.shared() };
        in_flight.insert(name.clone(), flight.clone());
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
        (flight, false)
    }
}

/// What a caller is told whose deadline passed first.
fn late(sent: bool) -> Error {
    let while_doing =
        if sent { "before the upstream answered" } else { "before anything was sent to the upstream" };
    Error::DeadlineExceeded { while_doing }
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
        let is_ours = |flight: &Flight<T>| Arc::ptr_eq(&flight.budget, &self.budget);
        if in_flight.get(&self.name).is_some_and(is_ours) {
            in_flight.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests;
