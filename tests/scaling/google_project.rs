//! A Google project of the simulation: its quota, its operations, and a replica's client of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use countermand::{
    amapi::{
        Api, DevicesPage, Json, ListQuery,
        error::{Error, ErrorResponse},
    },
    flight::Flight,
    policy::{
        Permit,
        action::{Cancel, Get, List, ListAllDevices},
    },
    quota::{Class, ProjectBudget, Refused},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// The time from a request to its response.
const LATENCY: Duration = Duration::from_millis(100);

/// A quota: the number of queries in any window of the period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotaLimit {
    pub(crate) queries: u32,
    pub(crate) period: Duration,
}

/// The project, which all replicas call.
pub(crate) struct GoogleProject {
    /// `None` for no limit.
    quota: Option<QuotaLimit>,
    state: Mutex<ProjectState>,
}

#[derive(Default)]
struct ProjectState {
    /// The time at which each operation is done.
    ends: HashMap<String, Instant>,
    /// The times of the queries in the current window.
    window: VecDeque<Instant>,
    counts: QueryCounts,
}

/// The queries that reached the project.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueryCounts {
    /// By class.
    pub(crate) answered: [u32; 3],
    pub(crate) refused: u32,
}

impl GoogleProject {
    pub(crate) fn new(quota: Option<QuotaLimit>) -> Arc<Self> {
        Arc::new(Self { quota, state: Mutex::default() })
    }

    /// Adds an operation that is done at `end`, unless it is cancelled before.
    pub(crate) fn issue(&self, name: &str, end: Instant) {
        self.lock().ends.insert(name.to_owned(), end);
    }

    /// The time at which an operation is or was done.
    pub(crate) fn end(&self, name: &str) -> Instant {
        self.lock().ends[name]
    }

    pub(crate) fn counts(&self) -> QueryCounts {
        self.lock().counts
    }

    /// Counts a query that arrives now. Returns whether the quota allows it.
    fn allows(&self, class: Class) -> bool {
        let now = Instant::now();
        let state = &mut *self.lock();
        if let Some(quota) = self.quota {
            while state.window.front().is_some_and(|sent| *sent + quota.period <= now) {
                state.window.pop_front();
            }
            if state.window.len() >= quota.queries as usize {
                state.counts.refused += 1;
                return false;
            }
            state.window.push_back(now);
        }
        state.counts.answered[class.index()] += 1;
        true
    }

    fn lock(&self) -> MutexGuard<'_, ProjectState> {
        self.state.lock().expect("not poisoned")
    }
}

/// A replica's client of the project. It does what `Amapi` does without a network: turn, request, report.
pub(crate) struct ReplicaApi {
    pub(crate) project: Arc<GoogleProject>,
    /// `None` without pacing.
    pub(crate) budget: Option<Arc<ProjectBudget>>,
}

impl ReplicaApi {
    /// Sends a query about an operation, which `apply` answers when it arrives.
    async fn query<T>(&self, class: Class, flight: &Flight, apply: impl FnOnce() -> T) -> Result<T, Error> {
        let admitted = match &self.budget {
            Some(budget) => {
                Some(budget.acquire(class, flight).await.map_err(|Refused { retry_after }| {
                    Error::QuotaBudget { retry_after, project: "p".into() }
                })?)
            }
            None => None,
        };
        flight.sent();
        sleep(LATENCY / 2).await;
        let result = self.project.allows(class).then(apply);
        sleep(LATENCY / 2).await;
        match result {
            Some(result) => {
                if let Some(admitted) = admitted {
                    admitted.answered();
                }
                Ok(result)
            }
            None => {
                if let Some(admitted) = admitted {
                    admitted.refused_by_google(None);
                }
                Err(Error::Response(ErrorResponse { http_status: 429, google: None, retry_after: None }))
            }
        }
    }
}

impl Api for ReplicaApi {
    async fn cancel(&self, permit: &Permit<Cancel>, flight: &Arc<Flight>) -> Result<(), Error> {
        let apply = || {
            let mut state = self.project.lock();
            if let Some(end) = state.ends.get_mut(permit.resource().as_str()) {
                *end = (*end).min(Instant::now());
            }
        };
        self.query(Class::Cancel, flight, apply).await
    }

    async fn get(&self, permit: &Permit<Get>, flight: &Arc<Flight>) -> Result<Json, Error> {
        let class = if flight.is_poll() { Class::Poll } else { Class::Read };
        let name = permit.resource().as_str();
        let is_done = self.query(class, flight, || self.project.end(name) <= Instant::now()).await?;
        match json!({"name": name, "done": is_done}) {
            Value::Object(operation) => Ok(operation),
            other => panic!("{other} is not an object"),
        }
    }

    async fn devices(
        &self,
        _: &Permit<ListAllDevices>,
        _: &str,
        _: &Arc<Flight>,
    ) -> Result<DevicesPage, Error> {
        panic!("no caller lists the devices of an enterprise")
    }

    async fn list(&self, _: &Permit<List>, _: &ListQuery, _: &Arc<Flight>) -> Result<Json, Error> {
        panic!("no device has two operations that are followed")
    }
}
