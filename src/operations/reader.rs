//! Reads the states of operations with few queries: from the cache, by joining an identical query in flight, or
//! from Google.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::{
    cache::{Cache, CacheLimits},
    flights::Flights,
    guard::Guard,
    outcome_log::OutcomeLog,
    translate,
};
use crate::{
    amapi::{Api, Json, ListQuery, error::Error},
    audit::Record,
    flight::Flight,
    name::OperationName,
    policy::{
        Permit,
        action::{Get, List},
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
        self.list_matching(permit, query, deadline, &flight, |_| true, log).await
    }

    /// Fetches a page of a device's operations in `flight`, and keeps those for which `filter` is true. `log` logs the
    /// result.
    pub(super) async fn list_matching(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        deadline: Instant,
        flight: &Arc<Flight>,
        filter: impl Fn(&Json) -> bool + Send,
        log: impl FnOnce(&Result<ListOperationsResponse, Error>) + Send,
    ) -> Result<ListOperationsResponse, Error> {
        let page = async {
            let page = self.0.amapi.list(permit, query, flight).await.inspect(|page| {
                self.0.guard.see_page(permit.resource().enterprise(), page);
            });
            let result = page.and_then(|page| translate::page(page, filter));
            log(&result);
            result
        };
        match timeout_at(deadline, page).await {
            Ok(result) => result,
            Err(_) => Err(Error::DeadlineExceeded { while_doing: "before the upstream answered" }),
        }
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
