//! Which service a request is for.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::{Status, body::Body};
use tower::{Service, util::BoxCloneSyncService};

use super::{
    health,
    layers::{self, Guarded, Limits},
    reflection,
};
use crate::{
    caller::Caller, operations::Operations, proto::longrunning::operations_server::OperationsServer,
    serving::Serving,
};

/// Longer than any request of the contract needs: a name is at most 804 characters, a filter is the rest.
const MAX_REQUEST: usize = 64 * 1024;

/// A service that is not on the hot path.
type Aside = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// All services of the process.
#[derive(Clone)]
pub(super) struct Routes {
    operations: OperationsServer<Operations>,
    limits: Limits,
    health: Aside,
    reflection: Aside,
    reflection_alpha: Aside,
}

impl Routes {
    pub(super) fn new(operations: Operations, limits: Limits, serving: watch::Receiver<Serving>) -> Self {
        Self {
            operations: OperationsServer::new(operations).max_decoding_message_size(MAX_REQUEST),
            limits,
            health: BoxCloneSyncService::new(health::service(serving.clone())),
            reflection: BoxCloneSyncService::new(reflection::v1(serving.clone())),
            reflection_alpha: BoxCloneSyncService::new(reflection::v1alpha(serving)),
        }
    }

    /// The services as one connection's caller meets them.
    pub(super) fn of(&self, caller: Caller) -> ForCaller {
        ForCaller {
            operations: layers::stack(self.operations.clone(), self.limits.clone(), caller),
            aside: self.clone(),
        }
    }
}

/// The services of one connection.
#[derive(Clone)]
pub(super) struct ForCaller {
    operations: Guarded<OperationsServer<Operations>>,
    aside: Routes,
}

impl Service<Request<Incoming>> for ForCaller {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        <Guarded<OperationsServer<Operations>> as Service<Request<Incoming>>>::Future,
        Either<<Aside as Service<Request<Incoming>>>::Future, Ready<Result<Response<Body>, Infallible>>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Every service below is always ready: what is too much is refused, not queued.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let aside = match service.map(|(service, _)| service) {
            Some("google.longrunning.Operations") => return Either::Left(self.operations.call(request)),
            Some("grpc.health.v1.Health") => &mut self.aside.health,
            Some("grpc.reflection.v1.ServerReflection") => &mut self.aside.reflection,
            Some("grpc.reflection.v1alpha.ServerReflection") => &mut self.aside.reflection_alpha,
            _ => {
                let unknown = Status::unimplemented("no such service").into_http();
                return Either::Right(Either::Right(ready(Ok(unknown))));
            }
        };
        Either::Right(Either::Left(aside.call(request)))
    }
}
