//! A fake of the Android Management API without sockets. It counts its calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tokio_util::task::TaskTracker;

use super::{CacheLimits, Guard, Operations, PollIntervals, Times};
use crate::{
    amapi::{Api, DevicesPage, Json, ListQuery, error::Error},
    flight::Flight,
    name::DeviceName,
    policy::{
        Permit, Policy,
        action::{Cancel, Get, List, ListAllDevices},
    },
    serving::Serving,
    telemetry::metrics::Metrics,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// The fake. Clones share their state.
#[derive(Clone, Default)]
pub(super) struct FakeAmapi(Arc<Mutex<FakeState>>);

#[derive(Default)]
struct FakeState {
    operations: BTreeMap<String, Value>,
    hanging: BTreeSet<String>,
    failing: BTreeSet<String>,
    error: Option<Error>,
    page_size: usize,
    lists_panic: bool,
    counts: Counts,
    /// The lists that are in flight, and the maximum at one time.
    lists_in_flight: usize,
    max_lists_in_flight: usize,
}

/// How often each method was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) cancels: usize,
    pub(super) gets: usize,
    pub(super) lists: usize,
    pub(super) devices: usize,
}

/// Counts a list as in flight until it is dropped.
struct ListInFlight<'a>(&'a FakeAmapi);

impl Drop for ListInFlight<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.lists_in_flight -= 1);
    }
}

impl FakeAmapi {
    fn with<T>(&self, f: impl FnOnce(&mut FakeState) -> T) -> T {
        f(&mut self.0.lock().expect("not poisoned"))
    }

    pub(super) fn counts(&self) -> Counts {
        self.with(|state| state.counts)
    }

    /// Adds a pending operation.
    pub(super) fn issue(&self, name: &str) {
        self.with(|state| state.operations.insert(name.to_owned(), json!({"name": name})));
    }

    pub(super) fn finish(&self, name: &str) {
        let done = json!({"name": name, "done": true});
        self.with(|state| state.operations.insert(name.to_owned(), done));
    }

    pub(super) fn delete(&self, name: &str) {
        self.with(|state| state.operations.remove(name));
    }

    /// The maximum number of lists that were in flight at one time.
    pub(super) fn max_lists_in_flight(&self) -> usize {
        self.with(|state| state.max_lists_in_flight)
    }

    /// The number of lists that are in flight.
    pub(super) fn lists_in_flight(&self) -> usize {
        self.with(|state| state.lists_in_flight)
    }

    /// Makes lists of a device fail.
    pub(super) fn fail_device(&self, name: &str) {
        self.with(|state| state.failing.insert(name.to_owned()));
    }

    /// Makes gets of an operation, or lists of a device, hang.
    pub(super) fn hang(&self, name: &str) {
        self.with(|state| state.hanging.insert(name.to_owned()));
    }

    /// Sets the error of all calls; `None` for success.
    pub(super) fn fail(&self, error: Option<Error>) {
        self.with(|state| state.error = error);
    }

    /// Sets the maximum number of operations on a page; 0 for no limit.
    pub(super) fn set_page_size(&self, page_size: usize) {
        self.with(|state| state.page_size = page_size);
    }

    /// Sets whether a list panics.
    pub(super) fn set_lists_panic(&self, lists_panic: bool) {
        self.with(|state| state.lists_panic = lists_panic);
    }

    /// Starts the service with this API. The sender controls the drain.
    pub(super) fn serve(&self) -> (Arc<Operations<Self>>, watch::Sender<Serving>) {
        let (serving, state) = watch::channel(Serving::Ready);
        let times = Times {
            upstream_timeout: 30 * SECOND,
            max_wait: 600 * SECOND,
            intervals: PollIntervals { min: SECOND, max: 20 * SECOND },
            limits: CacheLimits { entries: 100, max_age: 3600 * SECOND, min_interval: SECOND },
        };
        let policy = Policy::without_rules();
        let (metrics, _) = Metrics::new();
        let metrics = metrics.operations;
        let guard = Arc::new(Guard::new(None, metrics.guard_triggered.clone()));
        let service =
            Operations::new(policy, self.clone(), times, state, TaskTracker::new(), guard, &metrics);
        (Arc::new(service), serving)
    }
}

/// Returns the result after a delay of 0.1 s.
async fn delayed<T>(result: Result<T, Error>) -> Result<T, Error> {
    sleep(SECOND / 10).await;
    result
}

fn object(json: Value) -> Json {
    match json {
        Value::Object(members) => members,
        other => panic!("{other} is not an object"),
    }
}

/// The error that Google returns for an unknown operation.
pub(super) fn not_found() -> Error {
    Error::Response(crate::amapi::error::ErrorResponse { http_status: 404, google: None, retry_after: None })
}

/// The error of a network failure.
pub(super) fn unreachable() -> Error {
    Error::Unreachable { cause: "scripted".to_owned() }
}

/// The error of a call whose turn in the quota would come in this many seconds.
pub(super) fn over_budget(seconds: u32) -> Error {
    Error::QuotaBudget { retry_after: seconds * SECOND, project: "mdm".into() }
}

impl Api for FakeAmapi {
    async fn cancel(&self, permit: &Permit<Cancel>, _: &Arc<Flight>) -> Result<(), Error> {
        let result = self.with(|state| {
            state.counts.cancels += 1;
            let name = permit.resource().as_str();
            let cancelled = json!({"name": name, "done": true, "error": {"code": 1}});
            match &state.error {
                Some(error) => Err(error.clone()),
                None => {
                    state.operations.insert(name.to_owned(), cancelled);
                    Ok(())
                }
            }
        });
        delayed(result).await
    }

    async fn get(&self, permit: &Permit<Get>, _: &Arc<Flight>) -> Result<Json, Error> {
        if self.with(|state| state.hanging.contains(permit.resource().as_str())) {
            std::future::pending::<()>().await;
        }
        let result = self.with(|state| {
            state.counts.gets += 1;
            match &state.error {
                Some(error) => Err(error.clone()),
                None => state.operations.get(permit.resource().as_str()).cloned().ok_or_else(not_found),
            }
        });
        delayed(result.map(object)).await
    }

    /// One page with the devices that have operations.
    async fn devices(
        &self,
        permit: &Permit<ListAllDevices>,
        _: &str,
        _: &Arc<Flight>,
    ) -> Result<DevicesPage, Error> {
        let devices: BTreeSet<_> = self.with(|state| {
            state.counts.devices += 1;
            let names = state.operations.keys().filter_map(|name| name.split_once("/operations/"));
            names.map(|(device, _)| device.to_owned()).collect()
        });
        let devices = devices.iter().filter_map(|name| DeviceName::parse(name).ok());
        let devices = devices.filter(|device| device.enterprise() == permit.resource().id()).collect();
        delayed(Ok(DevicesPage { devices, unusable: 0, next_page_token: String::new() })).await
    }

    async fn list(&self, permit: &Permit<List>, query: &ListQuery, _: &Arc<Flight>) -> Result<Json, Error> {
        // Outside of `with`, because a panic in it would poison the lock.
        assert!(!self.with(|state| state.lists_panic), "a test makes lists panic");
        let is_hanging = self.with(|state| {
            state.counts.lists += 1;
            state.lists_in_flight += 1;
            state.max_lists_in_flight = state.max_lists_in_flight.max(state.lists_in_flight);
            state.hanging.contains(&permit.resource().to_string())
        });
        let _in_flight = ListInFlight(self);
        if is_hanging {
            std::future::pending::<()>().await;
        }
        let result = self.with(|state| {
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            if state.failing.contains(&permit.resource().to_string()) {
                return Err(unreachable());
            }
            let first: usize = query.page_token.parse().unwrap_or(0);
            let limits = [state.page_size, query.page_size as usize];
            let max = limits.into_iter().filter(|size| *size > 0).min().unwrap_or(usize::MAX);
            let prefix = format!("{}/", permit.resource());
            let of_device: Vec<_> = state
                .operations
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix))
                .map(|(_, op)| op)
                .collect();
            let page: Vec<_> = of_device.iter().skip(first).take(max).collect();
            let next = first.saturating_add(max);
            let token = if next < of_device.len() { next.to_string() } else { String::new() };
            Ok(json!({"operations": page, "nextPageToken": token}))
        });
        delayed(result.map(object)).await
    }
}
