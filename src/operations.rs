//! The five RPCs. A call reads top to bottom: parse → permit → share → call → translate.

use std::{fmt::Display, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::{
    amapi::{Amapi, Api, ListQuery, Outcome, error::Error},
    budget::Budget,
    name::{DeviceName, OperationName},
    policy::{Action, Policy, act},
    proto::longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        ListOperationsResponse, Operation, WaitOperationRequest, operations_server,
    },
    serving::Serving,
};

mod cache;
pub mod call;
mod json_struct;
mod poller;
pub mod share;
mod states;
pub mod status;
mod status_size;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod translate;

pub use cache::CacheLimits;
pub use poller::PollIntervals;

use call::Call;
use poller::Pollers;
use share::{Flights, Joined};
use states::States;

/// The service `google.longrunning.Operations`.
pub struct Operations<A = Amapi> {
    policy: Policy,
    amapi: Arc<A>,
    cancels: Flights<()>,
    states: States<A>,
    pollers: Pollers<A>,
    times: Times,
}

/// How long calls take, and what is asked how often.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The most time of a call, but for WaitOperation.
    pub upstream_timeout: Duration,
    /// The most time of WaitOperation.
    pub max_wait: Duration,
    /// The time between two polls of an awaited operation.
    pub intervals: PollIntervals,
    /// The limits of the cache.
    pub limits: CacheLimits,
}

impl<A: Api> Operations<A> {
    /// The service. What it sends is carried to its end in tasks that `flights` knows of; waiters are let
    /// go when `serving` says that the server drains.
    #[must_use]
    pub fn new(
        policy: Policy,
        amapi: A,
        times: Times,
        serving: watch::Receiver<Serving>,
        flights: TaskTracker,
    ) -> Self {
        let amapi = Arc::new(amapi);
        let Times { upstream_timeout, max_wait: _, intervals, limits } = times;
        let cancels = Flights::new(upstream_timeout, flights.clone());
        let states = States::new(Arc::clone(&amapi), upstream_timeout, limits, flights);
        let pollers = Pollers::new(states.clone(), intervals, serving);
        Self { policy, amapi, cancels, states, pollers, times }
    }
}

#[tonic::async_trait]
impl<A: Api> operations_server::Operations for Operations<A> {
    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::of(&request);
        let name = call.name(request.into_inner().name, OperationName::parse)?;
        let permit = call.permit(self.policy.decide::<act::Cancel>(&call.caller, name.clone()))?;
        let deadline = call.deadline(self.times.upstream_timeout);
        let answer = self.cancels.join(&name, deadline, Some(&call.record), |budget| {
            let (amapi, states, pollers) =
                (Arc::clone(&self.amapi), self.states.clone(), self.pollers.clone());
            async move {
                let outcome = amapi.cancel(&permit, &budget).await;
                log(permit.resource(), permit.action(), &outcome);
                log_if_late(permit.resource(), &outcome, &budget);
                // Whatever came of it, the operation may no longer be what it was.
                states.forget(permit.resource());
                pollers.poll_soon(permit.resource());
                outcome
            }
        });
        let result = call.carried(answer.await);
        result.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = Call::of(&request);
        let name = call.name(request.into_inner().name, OperationName::parse)?;
        let permit = call.permit(self.policy.decide::<act::Get>(&call.caller, name))?;
        let answer = self.states.get(&permit, call.deadline(self.times.upstream_timeout), &call.record).await;
        operation(call.carried(answer))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let call = Call::of(&request);
        let ListOperationsRequest { name, filter, page_size, page_token, return_partial_success } =
            request.into_inner();
        let name = call.name(name, DeviceName::parse)?;
        let page_size = u32::try_from(page_size).map_err(|_| {
            call.invalid(status::invalid_field("page_size", "INVALID_PAGE_SIZE", "must not be negative"))
        })?;
        let query = ListQuery { filter, page_size, page_token, return_partial_success };
        let permit = call.permit(self.policy.decide::<act::List>(&call.caller, name))?;
        let outcome = self.states.list(&permit, &query, call.deadline(self.times.upstream_timeout)).await;
        let result = call.carried(Joined { outcome, is_shared: false });
        result.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = Call::of(&request);
        let WaitOperationRequest { name, timeout } = request.into_inner();
        let name = call.name(name, OperationName::parse)?;
        let allowed = poller::requested_timeout(timeout.as_ref()).map_err(|()| {
            let wrong = "must be a duration of 0s or more";
            call.invalid(status::invalid_field("timeout", "INVALID_TIMEOUT", wrong))
        })?;
        let permit = call.permit(self.policy.decide::<act::Wait>(&call.caller, name))?.into_get();
        if allowed == Some(Duration::ZERO) {
            // No wait is wanted: the latest state is.
            let state =
                self.states.get(&permit, call.deadline(self.times.upstream_timeout), &call.record).await;
            return operation(call.carried(state));
        }
        let limit = allowed.map_or(self.times.max_wait, |allowed| allowed.min(self.times.max_wait));
        let end = call.time_to_answer(limit);
        let first = call.carried(self.states.get(&permit, end, &call.record).await);
        operation(self.pollers.wait(permit, first, end).await)
    }

    async fn delete_operation(
        &self,
        request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::of(&request);
        call.record.names(request.into_inner().name);
        Err(call.invalid(status::not_supported("DeleteOperation")))
    }
}

fn operation(answer: Result<Arc<Operation>, Error>) -> Result<Response<Operation>, Status> {
    match answer {
        Ok(operation) => Ok(Response::new(Operation::clone(&operation))),
        Err(error) => Err(status::from_upstream(&error)),
    }
}

/// The operator's line, once for a call upstream however many share it: louder when it is theirs to mend.
fn log<T>(resource: &impl Display, action: Action, outcome: &Outcome<T>) {
    let Outcome { result, attempts, upstream_status, credential } = outcome;
    let credential = credential.as_deref();
    match result {
        Ok(_) => tracing::debug!(%resource, ?action, attempts, upstream_status, credential, "done"),
        Err(Error::Answered(answer)) if answer.http_status < 500 => {
            tracing::info!(%resource, ?action, attempts, credential, %answer, "refused by Google");
        }
        Err(error) => {
            tracing::warn!(%resource, ?action, attempts, upstream_status, credential, %error, "failed upstream");
        }
    }
}

/// What came of a cancel of which a line in the audit log was written before that was known. What else may
/// have come of it is logged whoever waits.
fn log_if_late(operation: &OperationName, outcome: &Outcome<()>, budget: &Budget) {
    if outcome.result.is_ok() && budget.outlasts_a_caller() {
        tracing::info!(%operation, "the cancel was accepted after the deadline of one who asked for it");
    }
}
