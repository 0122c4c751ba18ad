//! `grpc.health.v1.Health`, which reports the state of the process.
//!
//! This module implements tonic-health's trait. tonic-health's own service reports SERVING at the start, and its
//! watches never end, so a drain would wait for them.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthService, HealthServer},
};

use crate::serving::Serving;

/// The services with a health status: the process as a whole, and the operations service.
const SERVICES: [&str; 2] = ["", "google.longrunning.Operations"];

/// Creates the health service. A watch sends each change of the status. In a drain, a watch sends NOT_SERVING and
/// ends with OK. The same happens when the sender of the state is dropped.
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
    /// Whether the sender of the state was dropped. The last state may then be outdated.
    is_lost: bool,
}

impl Watcher {
    /// Waits for a status that differs from the last one sent. Returns `None` at the end.
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
            return Err(Status::not_found("unknown service"));
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
        Serving::NotReady | Serving::Leaving | Serving::Draining => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests;
