//! Which service a request is for.

use std::{convert::Infallible, sync::Arc};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use tokio::sync::watch;
use tonic::{Status, body::Body};
use tower::{ServiceExt, util::BoxCloneSyncService};

use super::{
    health,
    identity::Identities,
    layers::{self, GrpcOnly, Guarded, Held, Limits},
    peer::Peer,
    reflection,
};
use crate::{
    operations::{Operations, status},
    proto::longrunning::operations_server::OperationsServer,
    serving::Serving,
};

/// A service that is not on the hot path.
type Aside = BoxCloneSyncService<Request<Incoming>, Response<Held>, Infallible>;

/// All services of the process.
pub(super) struct Routes {
    operations: OperationsServer<Operations>,
    identities: Arc<Identities>,
    limits: Limits,
    health: Aside,
    reflection: Aside,
    reflection_alpha: Aside,
}

impl Routes {
    pub(super) fn new(
        operations: Operations,
        identities: Arc<Identities>,
        limits: Limits,
        max_request_bytes: usize,
        serving: watch::Receiver<Serving>,
    ) -> Self {
        let operations = OperationsServer::new(operations).max_decoding_message_size(max_request_bytes);
        let health = aside(health::service(serving.clone()));
        let reflection = aside(reflection::v1(serving.clone()));
        let reflection_alpha = aside(reflection::v1alpha(serving));
        Self { operations, identities, limits, health, reflection, reflection_alpha }
    }

    /// The services as the callers of one connection meet them.
    pub(super) fn of(self: &Arc<Self>, peer: &Peer) -> ForCaller {
        let identity = self.identities.of_peer(peer);
        let operations = layers::stack(self.operations.clone(), self.limits.clone(), identity);
        ForCaller { operations, routes: Arc::clone(self) }
    }
}

fn aside<S>(service: S) -> Aside
where
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(GrpcOnly::new(service.map_response(|answer| answer.map(Held::from))))
}

/// The services of one connection.
pub(super) struct ForCaller {
    operations: Guarded<OperationsServer<Operations>>,
    routes: Arc<Routes>,
}

impl Service<Request<Incoming>> for ForCaller {
    type Response = Response<Held>;
    type Error = Infallible;
    type Future = Either<
        <Guarded<OperationsServer<Operations>> as tower::Service<Request<Incoming>>>::Future,
        Either<
            <Aside as tower::Service<Request<Incoming>>>::Future,
            Ready<Result<Response<Held>, Infallible>>,
        >,
    >;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Every service below is always ready: what is too much is refused, not queued.
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let aside = match service.map(|(service, _)| service) {
            Some("google.longrunning.Operations") => {
                return Either::Left(tower::Service::call(&mut self.operations.clone(), request));
            }
            Some("grpc.health.v1.Health") => &self.routes.health,
            Some("grpc.reflection.v1.ServerReflection") => &self.routes.reflection,
            Some("grpc.reflection.v1alpha.ServerReflection") => &self.routes.reflection_alpha,
            _ => {
                let unknown = status::from_tonic(&Status::unimplemented("no such service"));
                return Either::Right(Either::Right(ready(Ok(unknown.into_http()))));
            }
        };
        Either::Right(Either::Left(tower::Service::call(&mut aside.clone(), request)))
    }
}
