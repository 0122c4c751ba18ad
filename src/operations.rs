//! The five RPCs. A call reads top to bottom: parse → permit → share → call → translate.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use crate::{
    amapi::{Amapi, Outcome, error::Error},
    name::OperationName,
    policy::{Action, Permit, Policy},
    proto::longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        ListOperationsResponse, Operation, WaitOperationRequest, operations_server,
    },
};

pub mod call;
mod code;
mod details;
pub mod share;
pub mod status;
mod structs;
mod trailers;

use call::Call;
use share::Flights;

/// The service `google.longrunning.Operations`.
pub struct Operations {
    policy: Policy,
    amapi: Arc<Amapi>,
    cancels: Flights<Result<(), Error>>,
    upstream_timeout: Duration,
}

impl Operations {
    /// The service, which gives each call `upstream_timeout` at most, and carries what it sent to its end
    /// in tasks that `flights` knows of.
    #[must_use]
    pub fn new(
        policy: Policy,
        amapi: Amapi,
        upstream_timeout: Duration,
        flights: tokio_util::task::TaskTracker,
    ) -> Self {
        Self { policy, amapi: Arc::new(amapi), cancels: Flights::new(flights), upstream_timeout }
    }
}

#[tonic::async_trait]
impl operations_server::Operations for Operations {
    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let call = Call::of(&request, self.upstream_timeout);
        let name = OperationName::parse(&request.get_ref().name)
            .map_err(|error| status::invalid_name(&error.to_string()))?;
        let permit = self.policy.decide(&call.caller, Action::Cancel, name);
        let answer = self
            .cancels
            .join(permit.operation().clone(), &call, self.upstream_timeout, |budget| {
                let amapi = Arc::clone(&self.amapi);
                async move {
                    let outcome = amapi.cancel(&permit, &budget).await;
                    log(&permit, &outcome);
                    outcome.result
                }
            })
            .await;
        answer.map(Response::new).map_err(|error| status::from_upstream(&error))
    }

    async fn get_operation(&self, _: Request<GetOperationRequest>) -> Result<Response<Operation>, Status> {
        Err(status::not_supported("GetOperation"))
    }

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        Err(status::not_supported("ListOperations"))
    }

    async fn wait_operation(&self, _: Request<WaitOperationRequest>) -> Result<Response<Operation>, Status> {
        Err(status::not_supported("WaitOperation"))
    }

    async fn delete_operation(&self, _: Request<DeleteOperationRequest>) -> Result<Response<()>, Status> {
        Err(status::not_supported("DeleteOperation"))
    }
}

/// The operator's line, once for a call upstream however many share it: louder when it is theirs to mend.
fn log<T>(permit: &Permit, outcome: &Outcome<T>) {
    let (operation, action) = (permit.operation(), permit.action());
    let Outcome { result, attempts, upstream_status } = outcome;
    match result {
        Ok(_) => tracing::debug!(%operation, ?action, attempts, upstream_status, "done"),
        Err(Error::Answered(answer)) if answer.http_status < 500 => {
            tracing::info!(%operation, ?action, attempts, %answer, "refused by Google");
        }
        Err(error) => {
            tracing::warn!(%operation, ?action, attempts, upstream_status, %error, "failed upstream");
        }
    }
}
