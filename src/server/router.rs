//! Routes a request to its service.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use tokio::sync::watch;
use tonic::body::Body;
use tower::{ServiceExt, util::BoxCloneSyncService};

use super::{
    call::{self, Calls, ConnectionCall, InFlight},
    health,
    identity::{Identities, PeerIdentity},
    peer::Peer,
    reflection,
    resets::Resets,
    response_body::ResponseBody,
    write_stall::WriteStalls,
};
use crate::{
    operations::Operations, proto::longrunning::operations_server::OperationsServer, serving::Serving,
};

/// A service other than the contract's.
type OtherService = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// All services of the process.
pub struct Router {
    operations: OperationsServer<Operations>,
    calls: Arc<Calls>,
    identities: Arc<Identities>,
    health: OtherService,
    reflection: OtherService,
    reflection_alpha: OtherService,
}

impl Router {
    /// Routes to `operations`, whose calls `calls` bounds and records, to health, and to reflection.
    #[must_use]
    pub fn new(
        operations: Operations,
        calls: Arc<Calls>,
        identities: Arc<Identities>,
        max_request_bytes: usize,
        serving: watch::Receiver<Serving>,
    ) -> Self {
        Self {
            operations: OperationsServer::new(operations).max_decoding_message_size(max_request_bytes),
            calls,
            identities,
            health: BoxCloneSyncService::new(health::service(serving.clone())),
            reflection: BoxCloneSyncService::new(reflection::v1(serving.clone())),
            reflection_alpha: BoxCloneSyncService::new(reflection::v1alpha(serving)),
        }
    }

    /// All calls of the contract's service.
    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// The services for the calls of one connection.
    pub(super) fn for_connection(
        self: &Arc<Self>,
        peer: &Peer,
        resets: &Arc<Resets>,
        stalls: &Arc<WriteStalls>,
    ) -> ConnectionRouter {
        let identity = self.identities.of_peer(peer);
        let (resets, stalls) = (Arc::clone(resets), Arc::clone(stalls));
        ConnectionRouter { router: Arc::clone(self), identity, resets, stalls }
    }
}

/// The services for the calls of one connection.
pub(super) struct ConnectionRouter {
    router: Arc<Router>,
    identity: PeerIdentity,
    resets: Arc<Resets>,
    stalls: Arc<WriteStalls>,
}

impl Service<Request<Incoming>> for ConnectionRouter {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ConnectionCall;

    fn call(&self, request: Request<Incoming>) -> ConnectionCall {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let call = match service.map(|(service, _)| service) {
            Some("google.longrunning.Operations") => {
                call::start(&self.router.calls, self.router.operations.clone(), &self.identity, request)
            }
            Some("grpc.health.v1.Health") => call_other(&self.router.health, request),
            Some("grpc.reflection.v1.ServerReflection") => call_other(&self.router.reflection, request),
            Some("grpc.reflection.v1alpha.ServerReflection") => {
                call_other(&self.router.reflection_alpha, request)
            }
            _ => call::unknown_service(&self.router.calls),
        };
        ConnectionCall::new(call, &self.resets, &self.stalls)
    }
}

fn call_other(service: &OtherService, request: Request<Incoming>) -> InFlight {
    let service = service.clone();
    InFlight::unrecorded(async move {
        let (head, body) = request.into_parts();
        let response = match call::not_grpc(&head) {
            Some(refused) => refused,
            None => {
                let Ok(response) = service.oneshot(Request::from_parts(head, body)).await;
                response
            }
        };
        response.map(ResponseBody::from)
    })
}
