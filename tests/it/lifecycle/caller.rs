//! gRPC callers of the service, with generated clients. Each call opens a connection.

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

/// The `authorization` header of every caller here. It must not appear upstream or in a log.
pub(crate) const CALLER_AUTHORIZATION: &str = "Bearer callers-own-token-5dd0c6";

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
    request.metadata_mut().insert("authorization", CALLER_AUTHORIZATION.parse().unwrap());
    let response = timeout(LIMIT, OperationsClient::new(channel).cancel_operation(request)).await;
    response.expect("a response").map(|_| ())
}

/// Starts a cancel. Aborting the task closes the connection.
pub(crate) fn begin(address: SocketAddr, id: usize) -> JoinHandle<Result<(), Status>> {
    tokio::spawn(cancel(address, id))
}

/// Starts a cancel, and waits until Google holds the response.
pub(crate) async fn begin_held(google: &Google, address: SocketAddr) -> JoinHandle<Result<(), Status>> {
    google.hold();
    let in_flight = begin(address, 1);
    google.arrived(1).await;
    in_flight
}

/// The health status of a service over a new connection. The empty name is the whole server.
pub(crate) async fn health(address: SocketAddr, service: &str) -> Result<ServingStatus, Status> {
    let channel = connect(address).await.map_err(|error| Status::from_error(error.into()))?;
    let mut client = HealthClient::new(channel);
    let response = timeout(LIMIT, client.check(HealthCheckRequest { service: service.to_owned() }));
    response.await.expect("a response").map(|response| response.into_inner().status())
}

/// A stream of health status changes.
pub(crate) struct Watcher(Streaming<HealthCheckResponse>);

impl Watcher {
    pub(crate) async fn of(address: SocketAddr, service: &str) -> Self {
        let mut client = HealthClient::new(connect(address).await.unwrap());
        let request = HealthCheckRequest { service: service.to_owned() };
        Self(client.watch(request).await.unwrap().into_inner())
    }

    /// The next status, or `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<ServingStatus> {
        let response = timeout(LIMIT, self.0.message()).await.expect("a status").unwrap();
        response.map(|response| response.status())
    }

    /// Waits for SERVING.
    pub(crate) async fn serving(&mut self) {
        while self.next().await.expect("the stream continues") != ServingStatus::Serving {}
    }
}
