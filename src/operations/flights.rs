//! Identical calls that are in flight at the same time share one upstream call.
//!
//! The caller that starts an upstream call polls it, and the other callers wait for its outcome. When the deadline
//! of that caller passes, or the caller disconnects, the upstream call continues as a task of the [`TaskTracker`].

use std::{
    collections::HashMap,
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
    telemetry::metrics::Counter,
};

/// The upstream calls of one method that are in flight, by operation. Clones share them.
pub(super) struct Flights<T> {
    in_flight: Arc<Mutex<CallsByName<T>>>,
    tasks: TaskTracker,
    /// Counts the calls that joined another's upstream call.
    shared: Counter,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        let (in_flight, tasks) = (Arc::clone(&self.in_flight), self.tasks.clone());
        Self { in_flight, tasks, shared: self.shared.clone() }
    }
}

type CallsByName<T> = HashMap<OperationName, Arc<SharedCall<T>>, NameHasher>;

/// An upstream call and its outcome, which all its callers get.
struct SharedCall<T> {
    flight: Arc<Flight>,
    outcome: OnceLock<Result<T, Error>>,
    completed: Notify,
}

/// The role of a caller in an upstream call.
enum Joined<T: Clone + Send + Sync + 'static> {
    /// The caller started the call and polls it.
    Leader(Leader<T>),
    /// Another caller polls the call.
    Follower(Arc<SharedCall<T>>),
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Creates an empty set. A call whose caller leaves continues as a task of `tasks`. `shared` counts the calls that
    /// join another's upstream call.
    #[must_use]
    pub(super) fn new(tasks: TaskTracker, shared: Counter) -> Self {
        Self { in_flight: Arc::default(), tasks, shared }
    }

    /// Joins the in-flight upstream call for `name`, or starts one. The caller's `record` gets the flight. If the
    /// caller has disconnected by `deadline`, according to the record, this waits for the outcome beyond
    /// `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::DeadlineExceeded`] when `deadline` passes first, otherwise the error of the upstream call.
    pub(super) async fn join<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        record: &Record,
        start: impl FnOnce(Arc<Flight>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        if deadline <= Instant::now() {
            return Err(Error::UNSENT);
        }
        let joined = self.join_or_start(name, deadline, record, start);
        let (shared, is_shared) = match &joined {
            Joined::Leader(leader) => (Arc::clone(&leader.shared), false),
            Joined::Follower(shared) => (Arc::clone(shared), true),
        };
        let _member = record.joined(&shared.flight, is_shared);
        if is_shared && !record.is_of_poll() {
            self.shared.inc();
            record.caller().into_iter().for_each(|caller| shared.flight.add_caller(caller));
        }
        let mut outcome = pin!(async {
            match joined {
                Joined::Leader(leader) => leader.await,
                Joined::Follower(shared) => shared.outcome().await,
            }
        });
        tokio::select! {
            // The deadline is first, so that its error does not depend on the state of the upstream call.
            biased;
            () = sleep_until(deadline) => {}
            outcome = outcome.as_mut() => return outcome,
        }
        if record.has_disconnected() {
            return outcome.await;
        }
        if shared.flight.attempts() == 0 {
            let expected = shared.flight.expected_turn();
            return Err(expected.map_or(Error::UNSENT, |(project, at)| {
                let retry_after = at.saturating_duration_since(Instant::now());
                Error::QuotaBudget { retry_after, project }
            }));
        }
        shared.flight.record_caller_timeout();
        Err(Error::NO_RESPONSE)
    }

    /// Prevents other callers from joining the call for `name`, because its outcome may be outdated.
    pub(super) fn forget(&self, name: &OperationName) {
        self.lock().remove(name);
    }

    fn join_or_start<F>(
        &self,
        name: &OperationName,
        deadline: Instant,
        record: &Record,
        start: impl FnOnce(Arc<Flight>) -> F,
    ) -> Joined<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut in_flight = self.lock();
        if let Some(shared) = in_flight.get(name)
            && shared.flight.join(deadline, record.is_of_poll())
        {
            return Joined::Follower(Arc::clone(shared));
        }
        let flight = record.start_flight(deadline);
        let shared = Arc::new(SharedCall {
            flight: Arc::clone(&flight),
            outcome: OnceLock::new(),
            completed: Notify::new(),
        });
        in_flight.insert(name.clone(), Arc::clone(&shared));
        drop(in_flight);
        let mut leader =
            Leader { work: None, shared, name: name.clone(), flights: self.clone(), is_task: false };
        // A panic in `start` drops the leader. The drop completes the call for its followers.
        leader.work = Some(Box::pin(start(flight)));
        Joined::Leader(leader)
    }

    fn lock(&self) -> MutexGuard<'_, CallsByName<T>> {
        // A panic cannot leave the map in an inconsistent state.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> SharedCall<T> {
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

/// The upstream call, polled by the caller that started it. When dropped before its end, it continues as a task.
struct Leader<T: Clone + Send + Sync + 'static> {
    /// `None` while the call is polled, so that it is not polled again after a panic; also `None` after its end.
    work: Option<BoxFuture<'static, Result<T, Error>>>,
    shared: Arc<SharedCall<T>>,
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
        // After `forget`, the entry may be of a later call.
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
            // The call panicked or the process ends, so there is no outcome.
            _ => self.complete(&Err(Error::Lost)),
        }
    }
}

#[cfg(test)]
mod tests;
