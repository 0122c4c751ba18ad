//! Tests of reflection over h2c with both generated clients.

use std::{collections::HashSet, future::pending, net::Ipv4Addr, time::Duration};

use axum::Router;
use futures_util::{StreamExt, stream};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tonic::transport::Channel;

use super::*;

/// A timeout that is longer than any step, so that a hang fails the test.
const LIMIT: Duration = Duration::from_secs(30);

/// Serves reflection on an ephemeral port. A message on the sender starts a graceful shutdown.
async fn serve(
    serving: watch::Receiver<Serving>,
) -> (Channel, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", v1(serving.clone(), 1024))
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", v1alpha(serving, 1024));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        if stopped.await.is_err() {
            pending().await
        }
    });
    let server = tokio::spawn(server.into_future());
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (channel, stop, server)
}

/// The requests of one version. The generated types of the two versions differ only in their module.
macro_rules! client {
    ($version:ident) => {
        mod $version {
            use futures_util::stream;
            use tonic::{Status, transport::Channel};
            use tonic_reflection::pb::$version::{
                server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse, *,
            };

            pub(super) use tonic_reflection::pb::$version::server_reflection_request::MessageRequest as Request;

            pub(super) async fn send(
                channel: &Channel,
                message_request: MessageRequest,
            ) -> Result<MessageResponse, Status> {
                let mut client = ServerReflectionClient::new(channel.clone());
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
                let responses = client.server_reflection_info(stream::iter([request])).await?;
                let response = responses.into_inner().message().await?.expect("a response");
                Ok(response.message_response.expect("a message"))
            }

            pub(super) async fn list(channel: &Channel) -> Vec<String> {
                let MessageResponse::ListServicesResponse(list) =
                    send(channel, MessageRequest::ListServices(String::new())).await.unwrap()
                else {
                    panic!("not a list")
                };
                list.service.into_iter().map(|service| service.name).collect()
            }

            pub(super) async fn files(channel: &Channel, request: MessageRequest) -> Vec<Vec<u8>> {
                let MessageResponse::FileDescriptorResponse(files) = send(channel, request.clone())
                    .await
                    .unwrap_or_else(|status| panic!("{request:?}: {status}"))
                else {
                    panic!("{request:?}: not files")
                };
                files.file_descriptor_proto
            }
        }
    };
}

client!(v1);
client!(v1alpha);

const SERVICES: [&str; 4] = [
    "google.longrunning.Operations",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The messages that a response can contain, directly or in `Any`.
const MESSAGES: [&str; 29] = [
    "google.longrunning.Operation",
    "google.longrunning.ListOperationsResponse",
    "google.rpc.Status",
    "google.rpc.ErrorInfo",
    "google.rpc.RetryInfo",
    "google.rpc.QuotaFailure",
    "google.rpc.PreconditionFailure",
    "google.rpc.BadRequest",
    "google.rpc.BadRequest.FieldViolation",
    "google.rpc.RequestInfo",
    "google.rpc.ResourceInfo",
    "google.rpc.Help",
    "google.rpc.LocalizedMessage",
    "google.protobuf.Any",
    "google.protobuf.Duration",
    "google.protobuf.Empty",
    "google.protobuf.FieldMask",
    "google.protobuf.ListValue",
    "google.protobuf.Struct",
    "google.protobuf.Timestamp",
    "google.protobuf.Value",
    "google.protobuf.BoolValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.UInt64Value",
];

#[tokio::test]
async fn both_versions_list_each_service_once() {
    let (_state, serving) = watch::channel(Serving::Ready);
    let (channel, _stop, _server) = serve(serving).await;
    for mut listed in [v1::list(&channel).await, v1alpha::list(&channel).await] {
        listed.sort();
        assert_eq!(listed, SERVICES);
    }
}

/// Follows the imports by file name, as clients do. The pool accepts only a complete set.
macro_rules! assert_all_resolve {
    ($version:ident, $channel:expr) => {
        let mut set = FileDescriptorSet::default();
        let mut known = HashSet::new();
        let mut wanted: Vec<_> = SERVICES
            .into_iter()
            .chain(MESSAGES)
            .map(|name| $version::Request::FileContainingSymbol(name.to_owned()))
            .collect();
        while let Some(request) = wanted.pop() {
            for bytes in $version::files($channel, request).await {
                let file = FileDescriptorProto::decode(&bytes[..]).unwrap();
                if known.insert(file.name().to_owned()) {
                    wanted.extend(file.dependency.iter().cloned().map($version::Request::FileByFilename));
                    set.file.push(file);
                }
            }
        }
        let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
        for name in MESSAGES {
            assert!(pool.get_message_by_name(name).is_some(), "{name}");
        }
        for name in SERVICES {
            assert!(pool.get_service_by_name(name).is_some(), "{name}");
        }
    };
}

#[tokio::test]
async fn all_messages_of_a_response_resolve_with_their_imports() {
    let (_state, serving) = watch::channel(Serving::Ready);
    let (channel, _stop, _server) = serve(serving).await;
    assert_all_resolve!(v1, &channel);
    assert_all_resolve!(v1alpha, &channel);
}

#[tokio::test]
async fn an_unknown_symbol_is_not_found() {
    let (_state, serving) = watch::channel(Serving::Ready);
    let (channel, _stop, _server) = serve(serving).await;
    let request = v1::Request::FileContainingSymbol("google.rpc.Missing".to_owned());
    let MessageResponse::ErrorResponse(error) = v1::send(&channel, request).await.unwrap() else {
        panic!("not an error")
    };
    assert_eq!(error.error_code, i32::from(Code::NotFound));
}

#[tokio::test]
async fn an_open_stream_ends_in_a_drain_and_does_not_block_the_shutdown() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let (state, serving) = watch::channel(Serving::Ready);
    let (channel, stop, server) = serve(serving).await;
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    // The client never ends its stream.
    let requests = stream::iter([request]).chain(stream::pending());
    let mut client = ServerReflectionClient::new(channel);
    let mut responses = client.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().is_some());

    state.send_replace(Serving::Draining);
    let end = timeout(LIMIT, responses.message()).await.expect("the stream ends");
    assert_eq!(end.unwrap(), None);
    stop.send(()).unwrap();
    timeout(LIMIT, server).await.expect("the server ends").unwrap().unwrap();
}
