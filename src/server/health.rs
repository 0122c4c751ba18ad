//! `grpc.health.v1.Health`, driven by one state of the whole process.
//!
//! Our own over tonic-health's trait, since its service starts the overall health as SERVING, and its
//! watches never end, which would keep a drain waiting for its watchers.

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

/// The services that the state is told of: the process as a whole, and the contract.
const SERVICES: [&str; 2] = ["", "google.longrunning.Operations"];

/// The health service by the state that `serving` has. A watch gets each change of what it may be told and,
/// once the process drains, NOT_SERVING and its end, with OK. So it does when the state's sender is gone.
#[must_use]
pub fn service(serving: watch::Receiver<Serving>) -> HealthServer<Health> {
    HealthServer::new(Health { serving })
}

/// What [`service`] serves.
#[derive(Debug, Clone)]
pub struct Health {
    serving: watch::Receiver<Serving>,
}

/// One watcher: where its stream is.
struct Watcher {
    serving: watch::Receiver<Serving>,
    known: bool,
    told: Option<ServingStatus>,
    // Whoever knew the state is gone: the last one known may be wrong.
    lost: bool,
}

impl Watcher {
    /// What to tell next, as soon as it differs from what was told last; `None` at the end.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let serving = if self.lost { Serving::Draining } else { *self.serving.borrow_and_update() };
            let status = if self.known { status(serving) } else { ServingStatus::ServiceUnknown };
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(status);
            }
            if serving == Serving::Draining {
                return None;
            }
            self.lost = self.serving.changed().await.is_err();
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
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let watcher = Watcher { serving: self.serving.clone(), known, told: None, lost: false };
        let told = stream::unfold(watcher, |mut watcher| async move {
            let status = watcher.next().await?;
            Some((Ok(response(status)), watcher))
        });
        Ok(Response::new(Box::pin(told)))
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
