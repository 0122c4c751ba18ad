//! Tests of the RPCs with a fake API and a paused clock.

use std::sync::Arc;

use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};

use super::{
    Operations,
    fake_amapi::{Counts, FakeAmapi, SECOND, not_found, over_budget, unreachable},
};
use crate::{
    proto::longrunning::{
        CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation, WaitOperationRequest,
        operation::Result as Outcome, operations_server::Operations as _,
    },
    serving::Serving,
};

mod get;
mod list;
mod wait;

type Service = Arc<Operations<FakeAmapi>>;

fn name(device: usize, id: usize) -> String {
    format!("enterprises/LC01/devices/d{device}/operations/{id}")
}

async fn get(service: &Service, name: &str) -> Result<Operation, Status> {
    let request = GetOperationRequest { name: name.to_owned() };
    service.get_operation(Request::new(request)).await.map(tonic::Response::into_inner)
}

async fn cancel(service: &Service, name: &str) -> Result<(), Status> {
    let request = CancelOperationRequest { name: name.to_owned() };
    service.cancel_operation(Request::new(request)).await.map(tonic::Response::into_inner)
}

/// Waits for at most `seconds`.
async fn wait(service: &Service, name: &str, seconds: i64) -> Result<Operation, Status> {
    let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = WaitOperationRequest { name: name.to_owned(), timeout };
    service.wait_operation(Request::new(request)).await.map(tonic::Response::into_inner)
}

fn is_cancelled(operation: &Operation) -> bool {
    matches!(&operation.result, Some(Outcome::Error(status)) if status.code == Code::Cancelled as i32)
}
