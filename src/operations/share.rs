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

use super::call::Call;
use crate::{amapi::error::Error, budget::Budget, name::OperationName};

/// The calls in flight of one kind, by the operation they are about.
pub struct Flights<T> {
    in_flight: Arc<Mutex<HashMap<OperationName, Flight<T>>>>,
    tasks: TaskTracker,
}

/// One call upstream.
struct Flight<T> {
    budget: Arc<Budget>,
    answer: Shared<oneshot::Receiver<T>>,
}

impl<T> Flights<Result<T, Error>>
where
    T: Clone + Send + Sync + 'static,
{
    /// No calls yet; each will be a task of `tasks`.
    #[must_use]
    pub fn new(tasks: TaskTracker) -> Self {
        Self { in_flight: Arc::default(), tasks }
    }

    /// The answer of the call about `name` that is in flight, else of the one that `start` begins.
    ///
    /// # Errors
    ///
    /// Those of the call; [`Error::DeadlineExceeded`] when this caller's deadline passes first.
    pub async fn join<F>(
        &self,
        name: OperationName,
        call: &Call,
        upstream_timeout: Duration,
        start: impl FnOnce(Arc<Budget>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let late = Error::DeadlineExceeded { while_doing: "before the upstream answered" };
        if call.deadline <= Instant::now() {
            return Err(late);
        }
        let answer = self.board(name, call.deadline, upstream_timeout, start);
        match timeout_at(call.deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(oneshot::error::RecvError { .. })) => Err(Error::Lost),
            Err(_) => Err(late),
        }
    }

    fn board<F>(
        &self,
        name: OperationName,
        deadline: Instant,
        upstream_timeout: Duration,
        start: impl FnOnce(Arc<Budget>) -> F,
    ) -> Shared<oneshot::Receiver<Result<T, Error>>>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = in_flight.get(&name) {
            flight.budget.extend(deadline);
            return flight.answer.clone();
        }
        let budget = Arc::new(Budget::new(deadline, upstream_timeout));
        let (land, answer) = oneshot::channel();
        let answer = answer.shared();
        let flight = Flight { budget: Arc::clone(&budget), answer: answer.clone() };
        in_flight.insert(name.clone(), flight);
        drop(in_flight);

        let work = start(budget);
        // Leaves the map also when the work panics: a later call must not wait for one that is gone.
        let entry = Entry { in_flight: Arc::clone(&self.in_flight), name };
        self.tasks.spawn(async move {
            let outcome = work.await;
            drop(entry);
            // Nobody waits any more when all have hung up.
            let _ = land.send(outcome);
        });
        answer
    }
}

/// A flight's place in the map, given up when dropped.
struct Entry<T> {
    in_flight: Arc<Mutex<HashMap<OperationName, Flight<T>>>>,
    name: OperationName,
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests;
