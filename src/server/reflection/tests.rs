//! Over h2c and through both generated clients, as tools use it.

use std::{collections::HashSet, future::pending, net::Ipv4Addr, time::Duration};

use axum::Router;
use futures_util::{StreamExt, stream};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tonic::transport::Channel;

use super::*;

/// Far longer than any of this takes, so that a hang fails the test.
const LIMIT: Duration = Duration::from_secs(30);

/// Reflection on an ephemeral port; a message on the sender starts a graceful shutdown.
async fn serve(
    serving: watch::Receiver<Serving>,
) -> (Channel, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", v1(serving.clone()))
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", v1alpha(serving));
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

/// The same questions of either version, whose generated types differ in their module only.
macro_rules! client {
    ($version:ident) => {
        mod $version {
            use futures_util::stream;
            use tonic::{Status, transport::Channel};
            use tonic_reflection::pb::$version::{
                server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse, *,
            };

            pub(super) use tonic_reflection::pb::$version::server_reflection_request::MessageRequest as Ask;

            pub(super) async fn ask(
                channel: &Channel,
                ask: MessageRequest,
            ) -> Result<MessageResponse, Status> {
                let mut client = ServerReflectionClient::new(channel.clone());
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
                let asked = client.server_reflection_info(stream::iter([request])).await?;
                let answer = asked.into_inner().message().await?.expect("an answer");
                Ok(answer.message_response.expect("an answer of a kind"))
            }

            pub(super) async fn list(channel: &Channel) -> Vec<String> {
                let MessageResponse::ListServicesResponse(list) =
                    ask(channel, MessageRequest::ListServices(String::new())).await.unwrap()
                else {
                    panic!("not a list")
                };
                list.service.into_iter().map(|service| service.name).collect()
            }

            pub(super) async fn files(channel: &Channel, question: MessageRequest) -> Vec<Vec<u8>> {
                let MessageResponse::FileDescriptorResponse(files) = ask(channel, question.clone())
                    .await
                    .unwrap_or_else(|status| panic!("{question:?}: {status}"))
                else {
                    panic!("{question:?}: not files")
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

/// What an answer can contain, in `Any` or outright.
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
async fn both_versions_list_the_four_services_once() {
    let (_state, serving) = watch::channel(Serving::Ready);
    let (channel, _stop, _server) = serve(serving).await;
    for mut listed in [v1::list(&channel).await, v1alpha::list(&channel).await] {
        listed.sort();
        assert_eq!(listed, SERVICES);
    }
}

/// Follows the imports by file name, as clients do; the pool accepts a set only when all are there.
macro_rules! assert_all_resolve {
    ($version:ident, $channel:expr) => {
        let mut set = FileDescriptorSet::default();
        let mut known = HashSet::new();
        let mut wanted: Vec<_> = SERVICES
            .into_iter()
            .chain(MESSAGES)
            .map(|name| $version::Ask::FileContainingSymbol(name.to_owned()))
            .collect();
        while let Some(question) = wanted.pop() {
            for bytes in $version::files($channel, question).await {
                let file = FileDescriptorProto::decode(&bytes[..]).unwrap();
                if known.insert(file.name().to_owned()) {
                    wanted.extend(file.dependency.iter().cloned().map($version::Ask::FileByFilename));
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
async fn everything_that_an_answer_can_contain_resolves_with_its_imports() {
    let (_state, serving) = watch::channel(Serving::Ready);
    let (channel, _stop, _server) = serve(serving).await;
    assert_all_resolve!(v1, &channel);
    assert_all_resolve!(v1alpha, &channel);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (_state, serving) = watch::channel(Serving::Ready);
    let (channel, _stop, _server) = serve(serving).await;
    let asked = v1::ask(&channel, v1::Ask::FileContainingSymbol("google.rpc.Missing".to_owned())).await;
    assert_eq!(asked.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn an_open_stream_ends_at_the_drain_and_lets_the_server_end() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let (state, serving) = watch::channel(Serving::Ready);
    let (channel, stop, server) = serve(serving).await;
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    // The client never ends its side.
    let requests = stream::iter([request]).chain(stream::pending());
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    state.send_replace(Serving::Draining);
    let end = timeout(LIMIT, answers.message()).await.expect("the stream ends");
    assert_eq!(end.unwrap(), None);
    stop.send(()).unwrap();
    timeout(LIMIT, server).await.expect("the server ends").unwrap().unwrap();
}
