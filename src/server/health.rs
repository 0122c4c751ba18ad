//! `grpc.health.v1.Health`, from one state of the whole process.
//!
//! It implements tonic-health's trait anew. tonic-health's own service starts the overall health as SERVING,
//! and its watches never end, so that a drain would wait for them.

use std::pin::Pin;

use crate::serving::Serving;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthService, HealthServer},
};

/// The services that have a health: the process as a whole, and the operations service.
const SERVICES: [&str; 2] = ["", "google.longrunning.Operations"];

/// The health service. A watch sends each change of the health; in a drain it sends NOT_SERVING and ends with
/// OK. It does the same when the state's sender is gone.
#[must_use]
pub fn service(serving: watch::Receiver<Serving>) -> HealthServer<Health> {
    HealthServer::new(Health { serving })
}

/// The implementation behind [`service`].
#[derive(Debug, Clone)]
pub struct Health {
    serving: watch::Receiver<Serving>,
}

/// The state of one watch stream.
struct Watcher {
    serving: watch::Receiver<Serving>,
    is_known_service: bool,
    sent: Option<ServingStatus>,
    /// Whether the state's sender is gone, so that the last state may be wrong.
    is_lost: bool,
}

impl Watcher {
    /// Waits for a status that differs from the last one sent, and returns it; `None` at the end.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let serving = if self.is_lost { Serving::Draining } else { *self.serving.borrow_and_update() };
            let status = if self.is_known_service { status(serving) } else { ServingStatus::ServiceUnknown };
            if self.sent != Some(status) {
                self.sent = Some(status);
                return Some(status);
            }
            if serving == Serving::Draining {
                return None;
            }
            self.is_lost = self.serving.changed().await.is_err();
        }
    }
}

#[tonic::async_trait]
impl HealthService for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found("there is no service of this name here"));
        }
        Ok(Response::new(response(status(*self.serving.borrow()))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known_service = SERVICES.contains(&request.get_ref().service.as_str());
        let watcher = Watcher { serving: self.serving.clone(), is_known_service, sent: None, is_lost: false };
        let statuses = stream::unfold(watcher, |mut watcher| async move {
            let status = watcher.next().await?;
            Some((Ok(response(status)), watcher))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

fn status(serving: Serving) -> ServingStatus {
    match serving {
        Serving::Ready => ServingStatus::Serving,
        Serving::NotReady | Serving::Draining => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests;
