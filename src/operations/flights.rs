//! Identical calls in flight at the same time share one upstream call.
//!
//! The caller that starts an upstream call polls it in place, and the others wait for its outcome. When that caller
//! leaves first, by its deadline or a disconnect, the upstream call goes on as a task of the [`TaskTracker`].

use std::{
    collections::{HashMap, hash_map},
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

use crate::{
    amapi::error::Error,
    audit::Record,
    flight::Flight,
    name::{NameHasher, OperationName},
};

/// The upstream calls in flight of one kind, by the operation they are about. Clones share them.
pub(super) struct Flights<T> {
    in_flight: Arc<Mutex<InFlight<T>>>,
    tasks: TaskTracker,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self { in_flight: Arc::clone(&self.in_flight), tasks: self.tasks.clone() }
    }
}

type InFlight<T> = HashMap<OperationName, Arc<Shared<T>>, NameHasher>;

/// An upstream call and its outcome, which every caller of it gets.
struct Shared<T> {
    flight: Arc<Flight>,
    outcome: OnceLock<Result<T, Error>>,
    completed: Notify,
}

/// The caller's part in an upstream call.
enum Joined<T: Clone + Send + Sync + 'static> {
    /// It started the call, and polls it.
    Leader(Leader<T>),
    /// Another caller polls the call.
    Follower(Arc<Shared<T>>),
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// No calls yet. One whose caller leaves goes on as a task of `tasks`.
    #[must_use]
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { in_flight: Arc::default(), tasks }
    }

    /// Joins the in-flight upstream call for `name`, or starts one. The caller's `record` gets the flight. When the
    /// record says at `deadline` that the caller has disconnected, the outcome is waited for all the same.
    ///
    /// # Errors
    ///
    /// [`Error::DeadlineExceeded`] when `deadline` passes first, else the error of the upstream call.
    pub(super) async fn join<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        record: Option<&Record>,
        start: impl FnOnce(Arc<Flight>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        if deadline <= Instant::now() {
            return Err(UNSENT);
        }
        let joined = self.join_or_start(name, deadline, start);
        let (shared, is_shared) = match &joined {
            Joined::Leader(leader) => (Arc::clone(&leader.shared), false),
            Joined::Follower(shared) => (Arc::clone(shared), true),
        };
        if let Some(record) = record {
            record.joined(&shared.flight, is_shared);
        }
        let mut outcome = pin!(async {
            match joined {
                Joined::Leader(leader) => leader.await,
                Joined::Follower(shared) => shared.outcome().await,
            }
        });
        tokio::select! {
            // The deadline is first, so that its answer does not depend on what the upstream call was waiting for.
            biased;
            () = sleep_until(deadline) => {}
            outcome = outcome.as_mut() => return outcome,
        }
        if record.is_some_and(Record::has_disconnected) {
            return outcome.await;
        }
        if shared.flight.attempts() == 0 {
            return Err(UNSENT);
        }
        shared.flight.outlive_a_caller();
        Err(Error::DeadlineExceeded { while_doing: "before the upstream answered" })
    }

    /// Lets no other caller join the call for `name`: its outcome may be outdated.
    pub(super) fn forget(&self, name: &OperationName) {
        self.lock().remove(name);
    }

    fn join_or_start<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        start: impl FnOnce(Arc<Flight>) -> F,
    ) -> Joined<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut in_flight = self.lock();
        let vacant = match in_flight.entry(name.clone()) {
            hash_map::Entry::Occupied(entry) => {
                let shared = entry.get();
                shared.flight.extend(deadline);
                return Joined::Follower(Arc::clone(shared));
            }
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        let flight = Flight::new(deadline);
        let shared = Arc::new(Shared {
            flight: Arc::clone(&flight),
            outcome: OnceLock::new(),
            completed: Notify::new(),
        });
        vacant.insert(Arc::clone(&shared));
        drop(in_flight);
        let mut leader =
            Leader { work: None, shared, name: name.clone(), flights: self.clone(), is_task: false };
        // A panic in `start` drops the leader, which then completes the call for its followers.
        leader.work = Some(Box::pin(start(flight)));
        Joined::Leader(leader)
    }

    fn lock(&self) -> MutexGuard<'_, InFlight<T>> {
        // Every change of the map is one step.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const UNSENT: Error = Error::DeadlineExceeded { while_doing: "before anything was sent to the upstream" };

impl<T: Clone> Shared<T> {
    /// Waits for the outcome.
    async fn outcome(&self) -> Result<T, Error> {
        loop {
            let completed = self.completed.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            completed.await;
        }
    }
}

/// The upstream call, polled by the caller that started it. Dropped before its end, it goes on as a task.
struct Leader<T: Clone + Send + Sync + 'static> {
    /// `None` while it is polled, so that a panic leaves nothing to poll again, and after its end.
    work: Option<BoxFuture<'static, Result<T, Error>>>,
    shared: Arc<Shared<T>>,
    name: OperationName,
    flights: Flights<T>,
    is_task: bool,
}

impl<T: Clone + Send + Sync + 'static> Future for Leader<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        match work.as_mut().poll(cx) {
            Poll::Pending => {
                self.work = Some(work);
                Poll::Pending
            }
            Poll::Ready(outcome) => {
                self.complete(&outcome);
                Poll::Ready(outcome)
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Leader<T> {
    fn complete(&self, outcome: &Result<T, Error>) {
        let mut in_flight = self.flights.lock();
        // After `forget`, the entry may be that of a later call.
        if in_flight.get(&self.name).is_some_and(|entry| Arc::ptr_eq(entry, &self.shared)) {
            in_flight.remove(&self.name);
        }
        drop(in_flight);
        if self.shared.outcome.set(outcome.clone()).is_ok() {
            self.shared.completed.notify_waiters();
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Leader<T> {
    fn drop(&mut self) {
        if self.shared.outcome.get().is_some() {
            return;
        }
        match (self.work.take(), Handle::try_current()) {
            (Some(work), Ok(runtime)) if !self.is_task => {
                let rest = Self {
                    work: Some(work),
                    shared: Arc::clone(&self.shared),
                    name: self.name.clone(),
                    flights: self.flights.clone(),
                    is_task: true,
                };
                self.flights.tasks.spawn_on(rest, &runtime);
            }
            // It panicked, or the process ends: there will be no outcome.
            _ => self.complete(&Err(Error::Lost)),
        }
    }
}

#[cfg(test)]
mod tests;
