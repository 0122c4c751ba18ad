//! The five RPCs. A call reads top to bottom: parse → permit → share → call → translate.

use std::{fmt::Display, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::{
    amapi::{Amapi, Api, ListQuery, Outcome, error::Error},
    name::{DeviceName, OperationName},
    policy::{Action, Denied, Policy},
    proto::longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        ListOperationsResponse, Operation, WaitOperationRequest, operations_server,
    },
    serving::Serving,
};

pub mod call;
mod code;
mod details;
mod interval;
mod known;
mod latest;
mod poll;
mod round;
pub mod share;
mod states;
pub mod status;
mod structs;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trailers;
mod translate;
mod wait;

pub use interval::Intervals;
pub use known::Limits;

use call::Call;
use poll::Pollers;
use share::Flights;
use states::States;

/// The service `google.longrunning.Operations`.
pub struct Operations<A = Amapi> {
    policy: Policy,
    amapi: Arc<A>,
    cancels: Flights<Result<(), Error>>,
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
    /// How often an awaited operation is asked for.
    pub intervals: Intervals,
    /// What is known without asking.
    pub limits: Limits,
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
        let name = OperationName::parse(&request.get_ref().name).map_err(invalid_name)?;
        let permit = self.policy.decide(&call.caller, Action::Cancel, name.clone()).map_err(denied)?;
        let answer = self.cancels.join(&name, call.deadline(self.times.upstream_timeout), |budget| {
            let (amapi, states, pollers) =
                (Arc::clone(&self.amapi), self.states.clone(), self.pollers.clone());
            async move {
                let outcome = amapi.cancel(&permit, &budget).await;
                log(permit.resource(), permit.action(), &outcome);
                // Whatever came of it, the operation may no longer be what it was.
                states.forget(permit.resource());
                pollers.hurry(permit.resource());
                outcome.result
            }
        });
        answer.await.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = Call::of(&request);
        let name = OperationName::parse(&request.get_ref().name).map_err(invalid_name)?;
        let permit = self.policy.decide(&call.caller, Action::Get, name).map_err(denied)?;
        let answer = self.states.get(&permit, call.deadline(self.times.upstream_timeout)).await;
        operation(answer)
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let call = Call::of(&request);
        let ListOperationsRequest { name, filter, page_size, page_token, return_partial_success } =
            request.into_inner();
        let name = DeviceName::parse(&name).map_err(invalid_name)?;
        let page_size = u32::try_from(page_size)
            .map_err(|_| status::invalid_field("page_size", "INVALID_PAGE_SIZE", "must not be negative"))?;
        let query = ListQuery { filter, page_size, page_token, return_partial_success };
        let permit = self.policy.decide(&call.caller, Action::List, name).map_err(denied)?;
        let answer = self.states.list(&permit, &query, call.deadline(self.times.upstream_timeout)).await;
        answer.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let call = Call::of(&request);
        let WaitOperationRequest { name, timeout } = request.into_inner();
        let name = OperationName::parse(&name).map_err(invalid_name)?;
        let allowed = wait::allowed(timeout.as_ref()).map_err(|()| {
            status::invalid_field("timeout", "INVALID_TIMEOUT", "must be a duration of 0s or more")
        })?;
        let permit = self.policy.decide(&call.caller, Action::Wait, name).map_err(denied)?;
        if allowed == Some(Duration::ZERO) {
            // No wait is wanted: the latest state is.
            return operation(self.states.get(&permit, call.deadline(self.times.upstream_timeout)).await);
        }
        let limit = allowed.map_or(self.times.max_wait, |allowed| allowed.min(self.times.max_wait));
        let end = call.time_to_answer(limit);
        operation(wait::wait(&self.states, &self.pollers, permit, end).await)
    }

    async fn delete_operation(&self, _: Request<DeleteOperationRequest>) -> Result<Response<()>, Status> {
        Err(status::not_supported("DeleteOperation"))
    }
}

fn invalid_name(error: crate::name::InvalidName) -> Status {
    status::invalid_name(&error.to_string())
}

fn denied(denied: Denied) -> Status {
    tracing::debug!(policies = ?denied.policies(), "denied");
    status::denied()
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
