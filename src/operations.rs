//! The five RPCs. A call reads top to bottom: parse → permit → share → call → translate.

use std::{fmt::Display, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::field::display;

use crate::{
    amapi::{Amapi, Api, ListQuery, error::Error},
    name::{EnterpriseName, ListParent, OperationName},
    policy::{Policy, action},
    proto::longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        ListOperationsResponse, Operation, WaitOperationRequest, operations_server,
    },
    serving::Serving,
    telemetry::metrics::OperationMetrics,
};

mod cache;
pub mod call;
mod device_queue;
mod device_read;
mod enterprise_list;
#[cfg(test)]
mod fake_amapi;
pub(crate) mod filter;
mod flights;
pub mod guard;
mod json_struct;
mod outcome_log;
mod page_token;
mod poller;
mod reader;
mod sensitive_members;
pub mod settings;
pub mod status;
mod status_size;
#[cfg(test)]
mod tests;
mod translate;

pub use cache::CacheLimits;
pub use poller::PollIntervals;

use call::Call;
use enterprise_list::EnterpriseList;
use filter::FilterError;
use flights::Flights;
use guard::Guard;
use outcome_log::OutcomeLog;
use page_token::Position;
use poller::Pollers;
use reader::Reader;

/// The service `google.longrunning.Operations`.
pub struct Operations<A = Amapi> {
    policy: Policy,
    amapi: Arc<A>,
    log: Arc<OutcomeLog>,
    cancels: Flights<()>,
    reader: Reader<A>,
    pollers: Pollers<A>,
    times: Times,
}

/// The timeouts of calls, and the limits of polling and caching.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The timeout of a call other than WaitOperation.
    pub upstream_timeout: Duration,
    /// The timeout of WaitOperation.
    pub max_wait: Duration,
    /// The time between two polls of an awaited operation.
    pub intervals: PollIntervals,
    /// The limits of the cache.
    pub limits: CacheLimits,
}

impl<A: Api> Operations<A> {
    /// Creates the service. An upstream call whose callers disconnected continues as a task of `in_flight`. Waits
    /// end when `serving` becomes `Draining`. `guard` looks at every response to a query. `metrics` reads the sizes of
    /// the cache and of the pollers.
    #[must_use]
    pub fn new(
        policy: Policy,
        amapi: A,
        times: Times,
        serving: watch::Receiver<Serving>,
        in_flight: TaskTracker,
        guard: Arc<Guard>,
        metrics: &OperationMetrics,
    ) -> Self {
        let amapi = Arc::new(amapi);
        let Times { upstream_timeout, max_wait: _, intervals, limits } = times;
        let cancels = Flights::new(in_flight.clone(), metrics.shared_cancels.clone());
        let log = Arc::<OutcomeLog>::default();
        let reader = Reader::new(
            Arc::clone(&amapi),
            Arc::clone(&log),
            guard,
            upstream_timeout,
            limits,
            in_flight,
            metrics,
        );
        let pollers = Pollers::new(reader.clone(), intervals, serving, metrics);
        Self { policy, amapi, log, cancels, reader, pollers, times }
    }
}

impl<A: Api> Operations<A> {
    /// ListOperations over all devices of an enterprise.
    async fn list_all_devices(
        &self,
        call: &Call,
        name: EnterpriseName,
        query: ListQuery,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let ListQuery { filter: text, page_size, page_token, return_partial_success } = query;
        let invalid = |field, reason, problem: &dyn Display| {
            call.invalid(status::invalid_field(field, reason, &problem.to_string()))
        };
        let filter =
            text.parse().map_err(|error: FilterError| invalid("filter", "INVALID_FILTER", &error))?;
        let position = Position::read(&page_token, &name, &text);
        let position = position.map_err(|error| invalid("page_token", "INVALID_PAGE_TOKEN", &error))?;
        let permit = call.permit::<action::ListAllDevices>(&self.policy, name)?;
        let list = EnterpriseList {
            policy: &self.policy,
            reader: &self.reader,
            call,
            filter,
            page_size: enterprise_list::page_size(page_size),
            return_partial_success,
            end: call.wait_end(self.times.upstream_timeout),
        };
        let page = list.page(&permit, position).await;
        let (mut page, position) = page.map_err(|error| status::from_upstream(&error))?;
        page.next_page_token = position.write(permit.resource(), &text);
        Ok(Response::new(page))
    }
}

#[tonic::async_trait]
impl<A: Api> operations_server::Operations for Operations<A> {
    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let (call, CancelOperationRequest { name }) = Call::from_request(request);
        let name = call.parse_name(name, OperationName::parse)?;
        let permit = call.permit::<action::Cancel>(&self.policy, name.clone())?;
        let deadline = call.deadline(self.times.upstream_timeout);
        let cancelled = self.cancels.join(&name, deadline, &call.record, |flight| {
            let (amapi, log) = (Arc::clone(&self.amapi), Arc::clone(&self.log));
            let (reader, pollers) = (self.reader.clone(), self.pollers.clone());
            async move {
                let result = amapi.cancel(&permit, &flight).await;
                log.log(permit.resource(), permit.action(), &result, &flight);
                if result.is_ok() && flight.has_caller_timeout() {
                    // The caller's audit line has DEADLINE_EXCEEDED, so this line has the true outcome.
                    let operation = permit.resource();
                    let trace_id = flight.trace().id.map(display);
                    tracing::info!(trace_id, %operation, "Google accepted a cancel after its caller was answered DEADLINE_EXCEEDED");
                }
                // The operation may have changed, also when the cancel failed.
                reader.forget(permit.resource());
                pollers.poll_soon(permit.resource());
                result
            }
        });
        cancelled.await.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let (call, GetOperationRequest { name }) = Call::from_request(request);
        let name = call.parse_name(name, OperationName::parse)?;
        let permit = call.permit::<action::Get>(&self.policy, name)?;
        operation_response(
            self.reader.get(&permit, call.deadline(self.times.upstream_timeout), &call.record).await,
        )
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let (call, request) = Call::from_request(request);
        let ListOperationsRequest { name, filter, page_size, page_token, return_partial_success } = request;
        let parent = call.parse_name(name, ListParent::parse)?;
        let page_size = u32::try_from(page_size).map_err(|_| {
            call.invalid(status::invalid_field("page_size", "INVALID_PAGE_SIZE", "must not be negative"))
        })?;
        let query = ListQuery { filter, page_size, page_token, return_partial_success };
        let name = match parent {
            ListParent::Device(name) => name,
            ListParent::AllDevices(name) => return self.list_all_devices(&call, name, query).await,
        };
        let permit = call.permit::<action::List>(&self.policy, name)?;
        let deadline = call.deadline(self.times.upstream_timeout);
        let page = self.reader.list(&permit, &query, deadline, &call.record).await;
        page.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let (call, WaitOperationRequest { name, timeout }) = Call::from_request(request);
        let name = call.parse_name(name, OperationName::parse)?;
        let timeout = poller::requested_timeout(timeout.as_ref()).map_err(|()| {
            let problem = "must be a duration of 0s or more";
            call.invalid(status::invalid_field("timeout", "INVALID_TIMEOUT", problem))
        })?;
        let permit = call.permit::<action::Wait>(&self.policy, name)?.into_get();
        if timeout == Some(Duration::ZERO) {
            // The caller requests the latest state without a wait.
            let deadline = call.deadline(self.times.upstream_timeout);
            return operation_response(self.reader.get(&permit, deadline, &call.record).await);
        }
        let limit = timeout.map_or(self.times.max_wait, |timeout| timeout.min(self.times.max_wait));
        let end = call.wait_end(limit);
        let first = self.reader.get(&permit, end, &call.record).await;
        operation_response(self.pollers.wait(permit, first, end, &call.record).await)
    }

    async fn delete_operation(
        &self,
        request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let (call, DeleteOperationRequest { name }) = Call::from_request(request);
        call.record.set_name(name);
        Err(call.invalid(status::not_supported("DeleteOperation")))
    }
}

fn operation_response(result: Result<Arc<Operation>, Error>) -> Result<Response<Operation>, Status> {
    match result {
        Ok(operation) => Ok(Response::new(Operation::clone(&operation))),
        Err(error) => Err(status::from_upstream(&error)),
    }
}
