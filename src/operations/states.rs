//! The state of operations, asked for as seldom as can be: what is known is not asked again, and
//! identical questions in flight are one.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    cache::{Cache, CacheLimits},
    log,
    share::{Flights, Joined},
    translate,
};
use crate::{
    amapi::{Api, ListQuery, Outcome},
    audit::Record,
    budget::Budget,
    name::OperationName,
    policy::{
        Permit,
        act::{Get, List},
    },
    proto::longrunning::{ListOperationsResponse, Operation},
};

/// What answers questions about operations. Cheap to clone.
pub(super) struct States<A>(Arc<Inner<A>>);

struct Inner<A> {
    amapi: Arc<A>,
    upstream_timeout: Duration,
    cache: Cache,
    gets: Flights<Arc<Operation>>,
}

impl<A> Clone for States<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Api> States<A> {
    pub(super) fn new(
        amapi: Arc<A>,
        upstream_timeout: Duration,
        limits: CacheLimits,
        tasks: TaskTracker,
    ) -> Self {
        let gets = Flights::new(upstream_timeout, tasks);
        Self(Arc::new(Inner { amapi, upstream_timeout, cache: Cache::new(limits), gets }))
    }

    /// The latest state of one operation: the known one when it is fresh enough, else Google's.
    pub(super) async fn get(
        &self,
        permit: &Permit<Get>,
        deadline: Instant,
        record: &Record,
    ) -> Joined<Arc<Operation>> {
        match self.0.cache.get(permit.resource()) {
            Some(operation) => {
                let outcome =
                    Outcome { result: Ok(operation), attempts: 0, upstream_status: None, credential: None };
                Joined { outcome, is_shared: false }
            }
            None => self.ask(permit, deadline, Some(record)).await,
        }
    }

    /// Google's word on one operation, for a call with a `record`, or for all who await it.
    pub(super) async fn ask(
        &self,
        permit: &Permit<Get>,
        deadline: Instant,
        record: Option<&Record>,
    ) -> Joined<Arc<Operation>> {
        let deadline = deadline.min(Instant::now() + self.0.upstream_timeout);
        let name = permit.resource();
        let start = |budget: Arc<Budget>| {
            let (inner, permit) = (Arc::clone(&self.0), permit.clone());
            async move {
                let asked = Instant::now();
                let outcome = inner.amapi.get(&permit, &budget).await.and_then(translate::operation);
                log(permit.resource(), permit.action(), &outcome);
                outcome.and_then(|operation| {
                    let operation = Arc::new(operation);
                    inner.cache.insert(permit.resource(), &operation, asked);
                    Ok(operation)
                })
            }
        };
        self.0.gets.join(name, deadline, record, start).await
    }

    /// One page of a device's operations.
    pub(super) async fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        deadline: Instant,
    ) -> Outcome<ListOperationsResponse> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.0.upstream_timeout);
        let budget = Budget::new(deadline, left);
        let outcome = self.0.amapi.list(permit, query, &budget).await.and_then(translate::page);
        log(permit.resource(), permit.action(), &outcome);
        outcome
    }

    /// The most time that one question takes.
    pub(super) fn upstream_timeout(&self) -> Duration {
        self.0.upstream_timeout
    }

    /// Keeps what a list said of one operation; `asked` is when the list was.
    pub(super) fn learn(&self, name: &OperationName, operation: &Arc<Operation>, asked: Instant) {
        self.0.cache.insert(name, operation, asked);
    }

    /// A cancel has been sent: what was known or asked before it no longer counts.
    pub(super) fn forget(&self, name: &OperationName) {
        self.0.gets.forget(name);
        self.0.cache.cancelled(name);
    }
}
