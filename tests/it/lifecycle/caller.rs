//! Who calls the service: one connection each, by the generated clients.

use std::net::SocketAddr;

use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};
use tokio::{task::JoinHandle, time::timeout};
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::{lifecycle::google::Google, support::process::LIMIT};

/// What every caller here sends as its own `authorization`, which is nobody else's business.
pub(crate) const CALLERS_OWN: &str = "Bearer callers-own-token-5dd0c6";

/// The name of an operation.
pub(crate) fn operation(id: usize) -> String {
    format!("enterprises/LC01/devices/d1/operations/{id}")
}

pub(crate) async fn connect(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await
}

/// Cancels an operation over a new connection.
pub(crate) async fn cancel(address: SocketAddr, id: usize) -> Result<(), Status> {
    let channel = connect(address).await.map_err(|error| Status::from_error(error.into()))?;
    cancel_by(channel, operation(id)).await
}

pub(crate) async fn cancel_by(channel: Channel, name: String) -> Result<(), Status> {
    let mut request = Request::new(CancelOperationRequest { name });
    request.metadata_mut().insert("authorization", CALLERS_OWN.parse().unwrap());
    let answer = timeout(LIMIT, OperationsClient::new(channel).cancel_operation(request)).await;
    answer.expect("an answer").map(|_| ())
}

/// A cancel in flight; to abort it is to hang up.
pub(crate) fn begin(address: SocketAddr, id: usize) -> JoinHandle<Result<(), Status>> {
    tokio::spawn(cancel(address, id))
}

/// Likewise, and Google has it and holds its answer back.
pub(crate) async fn begin_held(google: &Google, address: SocketAddr) -> JoinHandle<Result<(), Status>> {
    google.hold();
    let in_flight = begin(address, 1);
    google.arrived(1).await;
    in_flight
}

/// What health says now of a service, over a new connection; of all when it has no name.
pub(crate) async fn health(address: SocketAddr, service: &str) -> Result<ServingStatus, Status> {
    let channel = connect(address).await.map_err(|error| Status::from_error(error.into()))?;
    let mut client = HealthClient::new(channel);
    let answer = timeout(LIMIT, client.check(HealthCheckRequest { service: service.to_owned() }));
    answer.await.expect("an answer").map(|answer| answer.into_inner().status())
}

/// One who watches the health.
pub(crate) struct Watcher(Streaming<HealthCheckResponse>);

impl Watcher {
    pub(crate) async fn of(address: SocketAddr, service: &str) -> Self {
        let mut client = HealthClient::new(connect(address).await.unwrap());
        let request = HealthCheckRequest { service: service.to_owned() };
        Self(client.watch(request).await.unwrap().into_inner())
    }

    /// What it is told next; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<ServingStatus> {
        let told = timeout(LIMIT, self.0.message()).await.expect("a word").unwrap();
        told.map(|answer| answer.status())
    }

    /// Waits to be told that it serves.
    pub(crate) async fn serving(&mut self) {
        while self.next().await.expect("no end") != ServingStatus::Serving {}
    }
}
