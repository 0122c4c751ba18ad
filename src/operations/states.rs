//! The state of operations, asked for as seldom as can be: what is known is not asked again, and
//! identical questions in flight are one.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::{
    flights::Flights,
    known::{Known, Limits},
    log, translate,
};
use crate::{
    amapi::{Api, ListQuery, error::Error},
    audit::Record,
    flight::Flight,
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
    known: Known,
    gets: Flights<Arc<Operation>>,
}

impl<A> Clone for States<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Api> States<A> {
    pub(super) fn new(amapi: Arc<A>, upstream_timeout: Duration, limits: Limits, tasks: TaskTracker) -> Self {
        let gets = Flights::new(tasks);
        Self(Arc::new(Inner { amapi, upstream_timeout, known: Known::new(limits), gets }))
    }

    /// The latest state of one operation: the cached one when it is fresh enough, else Google's.
    pub(super) async fn get(
        &self,
        permit: &Permit<Get>,
        deadline: Instant,
        record: &Record,
    ) -> Result<Arc<Operation>, Error> {
        match self.0.known.fresh(permit.resource()) {
            Some(operation) => Ok(operation),
            None => self.ask(permit, deadline, Some(record)).await,
        }
    }

    /// Google's state of one operation, for a call with a `record`, or for the waiters of a poller.
    pub(super) async fn ask(
        &self,
        permit: &Permit<Get>,
        deadline: Instant,
        record: Option<&Record>,
    ) -> Result<Arc<Operation>, Error> {
        let deadline = deadline.min(Instant::now() + self.0.upstream_timeout);
        let start = |flight: Arc<Flight>| {
            let (inner, permit) = (Arc::clone(&self.0), permit.clone());
            async move {
                let asked = Instant::now();
                let result = inner.amapi.get(&permit, &flight).await.and_then(translate::operation);
                log(permit.resource(), permit.action(), &result, &flight);
                let operation = Arc::new(result?);
                inner.known.keep(permit.resource(), &operation, asked);
                Ok(operation)
            }
        };
        self.0.gets.join(permit.resource(), deadline, record, start).await
    }

    /// One page of a device's operations, for a call with a `record`, or for the waiters of a poller.
    pub(super) async fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        deadline: Instant,
        record: Option<&Record>,
    ) -> Result<ListOperationsResponse, Error> {
        let flight = Flight::new(deadline.min(Instant::now() + self.0.upstream_timeout));
        if let Some(record) = record {
            record.joined(&flight, false);
        }
        let page = async {
            let result = self.0.amapi.list(permit, query, &flight).await.and_then(translate::page);
            log(permit.resource(), permit.action(), &result, &flight);
            result
        };
        match timeout_at(deadline, page).await {
            Ok(result) => result,
            Err(_) => Err(Error::DeadlineExceeded { while_doing: "before the upstream answered" }),
        }
    }

    /// The most time that one question takes.
    pub(super) fn upstream_timeout(&self) -> Duration {
        self.0.upstream_timeout
    }

    /// Keeps what a list said of one operation; `asked` is when the list was.
    pub(super) fn learn(&self, name: &OperationName, operation: &Arc<Operation>, asked: Instant) {
        self.0.known.keep(name, operation, asked);
    }

    /// A cancel has been sent: what was known or asked before it no longer counts.
    pub(super) fn forget(&self, name: &OperationName) {
        self.0.gets.forget(name);
        self.0.known.forget(name);
    }
}
