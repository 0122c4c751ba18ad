//! Reads the states of operations with few queries: from the cache, by joining an identical query in flight, or
//! from Google.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::field::display;

use super::{
    cache::{Cache, CacheLimits},
    flights::Flights,
    guard::Guard,
    outcome_log::OutcomeLog,
    translate,
};
use crate::{
    amapi::{Api, DevicesPage, Json, ListQuery, error::Error},
    audit::Record,
    flight::Flight,
    name::OperationName,
    policy::{
        Permit,
        action::{Get, List, ListAllDevices},
    },
    proto::longrunning::{ListOperationsResponse, Operation},
    telemetry::metrics::OperationMetrics,
};

/// Reads the states of operations. Cheap to clone. Clones share the cache.
pub(super) struct Reader<A>(Arc<ReaderInner<A>>);

struct ReaderInner<A> {
    amapi: Arc<A>,
    log: Arc<OutcomeLog>,
    guard: Arc<Guard>,
    upstream_timeout: Duration,
    cache: Cache,
    gets: Flights<Arc<Operation>>,
    metrics: OperationMetrics,
}

impl<A> Clone for Reader<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Api> Reader<A> {
    pub(super) fn new(
        amapi: Arc<A>,
        log: Arc<OutcomeLog>,
        guard: Arc<Guard>,
        upstream_timeout: Duration,
        limits: CacheLimits,
        tasks: TaskTracker,
        metrics: &OperationMetrics,
    ) -> Self {
        let (gets, cache) = (Flights::new(tasks, metrics.shared_gets.clone()), Cache::new(limits));
        let metrics = metrics.clone();
        let inner = Arc::new(ReaderInner { amapi, log, guard, upstream_timeout, cache, gets, metrics });
        inner.metrics.cache_entries.read_value_with({
            let inner = Arc::downgrade(&inner);
            move || inner.upgrade().map_or(0.0, |inner| inner.cache.len() as f64)
        });
        Self(inner)
    }

    /// The latest state of an operation: the cached state if it is recent enough, otherwise Google's.
    pub(super) async fn get(
        &self,
        permit: &Permit<Get>,
        deadline: Instant,
        record: &Record,
    ) -> Result<Arc<Operation>, Error> {
        match self.0.cache.get(permit.resource()) {
            Some(operation) => {
                self.0.metrics.cache_hits.inc();
                Ok(operation)
            }
            None => self.fetch(permit, deadline, record).await,
        }
    }

    /// Fetches the state of an operation from Google, for a call or for a poll.
    pub(super) async fn fetch(
        &self,
        permit: &Permit<Get>,
        deadline: Instant,
        record: &Record,
    ) -> Result<Arc<Operation>, Error> {
        let deadline = deadline.min(Instant::now() + self.0.upstream_timeout);
        let start = |flight: Arc<Flight>| {
            let (inner, permit) = (Arc::clone(&self.0), permit.clone());
            async move {
                let sent_at = Instant::now();
                let operation = inner.amapi.get(&permit, &flight).await.inspect(|operation| {
                    inner.guard.see_operation(permit.resource().enterprise(), operation);
                });
                let result = operation.and_then(translate::operation);
                inner.log.log(permit.resource(), permit.action(), &result, &flight);
                let operation = Arc::new(result?);
                inner.cache.insert(permit.resource(), &operation, sent_at);
                Ok(operation)
            }
        };
        self.0.gets.join(permit.resource(), deadline, record, start).await
    }

    /// Fetches a page of a device's operations from Google, for a call or for a poll.
    pub(super) async fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        deadline: Instant,
        record: &Record,
    ) -> Result<ListOperationsResponse, Error> {
        let end = deadline.min(Instant::now() + self.0.upstream_timeout);
        let flight = record.start_flight(end);
        let _member = record.joined(&flight, false);
        let log = |result: &_| self.0.log.log(permit.resource(), permit.action(), result, &flight);
        let page = self.0.amapi.list(permit, query, &flight);
        self.page(permit, page, deadline, |_| true, log).await
    }

    /// Fetches a page of a device's operations for a list over all devices, and keeps those for which `filter` is true.
    /// Fails with the error of `give_up` if that ends first.
    pub(super) async fn list_matching(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        deadline: Instant,
        part: &Arc<Flight>,
        filter: impl Fn(&Json) -> bool + Send,
        give_up: impl Future<Output = Error> + Send,
    ) -> Result<ListOperationsResponse, Error> {
        let page = async {
            tokio::select! {
                biased;
                page = self.0.amapi.list(permit, query, part) => page,
                error = give_up => Err(error),
            }
        };
        let log = |result: &_| self.0.log.log_device(permit, result, part);
        self.page(permit, page, deadline, filter, log).await
    }

    async fn page(
        &self,
        permit: &Permit<List>,
        page: impl Future<Output = Result<Json, Error>> + Send,
        deadline: Instant,
        filter: impl Fn(&Json) -> bool + Send,
        log: impl FnOnce(&Result<ListOperationsResponse, Error>) + Send,
    ) -> Result<ListOperationsResponse, Error> {
        let page = async {
            let page = page.await.inspect(|page| {
                self.0.guard.see_page(permit.resource().enterprise(), page);
            });
            let result = page.and_then(|page| translate::page(page, filter));
            log(&result);
            result
        };
        before(deadline, page).await
    }

    /// Fetches a page of the devices of an enterprise. If `skip_unusable`, it lacks the devices whose names cannot be used,
    /// which are an error otherwise.
    pub(super) async fn devices(
        &self,
        permit: &Permit<ListAllDevices>,
        token: &str,
        skip_unusable: bool,
        deadline: Instant,
        part: &Arc<Flight>,
    ) -> Result<DevicesPage, Error> {
        let malformed = |what| Err(Error::Malformed { what, http_status: 200 });
        let page = async {
            let page = self.0.amapi.devices(permit, token, part).await;
            let result = page.and_then(|page| {
                if !token.is_empty() && page.next_page_token == token {
                    // The pages would never end.
                    return malformed("a page of devices with its own page token as the next one");
                }
                if page.unusable > 0 && !skip_unusable {
                    return malformed("a page of devices with a name that is not of such a device");
                }
                Ok(page)
            });
            if let Ok(DevicesPage { unusable: count @ 1.., .. }) = result {
                let (trace_id, enterprise) = (part.trace().id.map(display), permit.resource());
                tracing::warn!(trace_id, %enterprise, count, "a page of the devices of an enterprise has names that are not of its devices, which are not listed");
            }
            self.0.log.log(permit.resource(), permit.action(), &result, part);
            result
        };
        before(deadline, page).await
    }

    /// Logs the error of a list over all devices that is not of one device.
    pub(super) fn log_failed_list(&self, permit: &Permit<ListAllDevices>, error: &Error, whole: &Flight) {
        self.0.log.log(permit.resource(), permit.action(), &Err::<(), _>(error.clone()), whole);
    }

    /// The timeout of one query.
    pub(super) fn upstream_timeout(&self) -> Duration {
        self.0.upstream_timeout
    }

    /// Caches the state of an operation from the response to a list that was sent at `sent_at`.
    pub(super) fn cache(&self, name: &OperationName, operation: &Arc<Operation>, sent_at: Instant) {
        self.0.cache.insert(name, operation, sent_at);
    }

    /// Discards the states of an operation that were cached or requested before its cancel completed.
    pub(super) fn forget(&self, name: &OperationName) {
        self.0.gets.forget(name);
        self.0.cache.record_cancel(name);
    }
}

/// Waits for a response until `deadline`.
async fn before<T>(deadline: Instant, response: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout_at(deadline, response).await.unwrap_or(Err(Error::NO_RESPONSE))
}
