//! Routes a request to its service.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::{body::Incoming, service::Service};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
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
    operations::{Operations, status},
    proto::longrunning::operations_server::OperationsServer,
    serving::Serving,
};

/// A service other than the contract's, with a request body of this type.
type OtherService<B> = BoxCloneSyncService<Request<B>, Response<Body>, Infallible>;

/// The maximum number of concurrent reflection streams. Reflection needs no authentication, and its streams have no
/// deadline.
const MAX_REFLECTION_STREAMS: usize = 64;

/// The maximum number of concurrent health watches, likewise. One takes about 8 kB.
const MAX_WATCHES: usize = 2048;

/// The `RetryInfo` of a refused stream.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// All services of the process.
pub struct Router {
    operations: OperationsServer<Operations>,
    calls: Arc<Calls>,
    identities: Arc<Identities>,
    health: OtherService<Full<Bytes>>,
    watches: Arc<Semaphore>,
    reflection: OtherService<Limited<Incoming>>,
    reflection_alpha: OtherService<Limited<Incoming>>,
    reflection_streams: Arc<Semaphore>,
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
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            reflection: BoxCloneSyncService::new(reflection::v1(serving.clone(), max_request_bytes)),
            reflection_alpha: BoxCloneSyncService::new(reflection::v1alpha(serving, max_request_bytes)),
            reflection_streams: Arc::new(Semaphore::new(MAX_REFLECTION_STREAMS)),
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
            Some("grpc.health.v1.Health") => call_health(&self.router, request),
            Some("grpc.reflection.v1.ServerReflection") => {
                call_reflection(&self.router, &self.router.reflection, request)
            }
            Some("grpc.reflection.v1alpha.ServerReflection") => {
                call_reflection(&self.router, &self.router.reflection_alpha, request)
            }
            _ => call::unknown_service(&self.router.calls),
        };
        ConnectionCall::new(call, &self.resets, &self.stalls)
    }
}

/// Calls health with the collected message. Both methods have one message, which is bounded like that of other calls. A
/// watch has no end, so the number of watches is bounded too.
fn call_health(router: &Router, request: Request<Incoming>) -> InFlight {
    let (service, calls) = (router.health.clone(), Arc::clone(&router.calls));
    let permit = match request.uri().path() {
        "/grpc.health.v1.Health/Watch" => Arc::clone(&router.watches).try_acquire_owned().map(Some),
        _ => Ok(None),
    };
    InFlight::unrecorded(async move {
        let (head, body) = request.into_parts();
        let response = match (call::not_grpc(&head), permit) {
            (Some(refused), _) => refused,
            (None, Err(_)) => status::overloaded(RETRY_AFTER).into_http(),
            (None, Ok(permit)) => match calls.collect_message(body).await {
                Ok(message) => {
                    let Ok(response) = service.oneshot(Request::from_parts(head, Full::new(message))).await;
                    match permit {
                        Some(permit) => response.map(|body| Body::new(Limited { body, _permit: permit })),
                        None => response,
                    }
                }
                Err(refused) => refused.into_http(),
            },
        };
        response.map(ResponseBody::from)
    })
}

/// Calls reflection, unless the maximum number of streams is open.
fn call_reflection(
    router: &Router,
    service: &OtherService<Limited<Incoming>>,
    request: Request<Incoming>,
) -> InFlight {
    let (service, permit) = (service.clone(), Arc::clone(&router.reflection_streams).try_acquire_owned());
    InFlight::unrecorded(async move {
        let (head, body) = request.into_parts();
        let response = match (call::not_grpc(&head), permit) {
            (Some(refused), _) => refused,
            (None, Ok(permit)) => {
                let body = Limited { body, _permit: permit };
                let Ok(response) = service.oneshot(Request::from_parts(head, body)).await;
                response
            }
            (None, Err(_)) => status::overloaded(RETRY_AFTER).into_http(),
        };
        response.map(ResponseBody::from)
    })
}

/// The body of a stream, which holds a permit as long as the body lives.
struct Limited<B> {
    body: B,
    _permit: OwnedSemaphorePermit,
}

impl<B: http_body::Body + Unpin> http_body::Body for Limited<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
