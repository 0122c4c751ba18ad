//! Reflection requests.

use futures_util::stream;
use http::uri::PathAndQuery;
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{
    service::{Service, Setup},
    upstream::Upstream,
    with_timeout,
};

/// The methods of v1 and v1alpha. Their messages have the same fields, so the types of v1 encode both.
const VERSIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

const METHOD_OPTIONS: &str = "google.protobuf.MethodOptions";

/// The number of `google.longrunning.operation_info`, which extends [`METHOD_OPTIONS`].
const OPERATION_INFO: i32 = 1049;

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.to_owned())
}

fn file(name: &str) -> MessageRequest {
    MessageRequest::FileByFilename(name.to_owned())
}

fn extension(containing_type: &str, extension_number: i32) -> MessageRequest {
    let containing_type = containing_type.to_owned();
    MessageRequest::FileContainingExtension(ExtensionRequest { containing_type, extension_number })
}

fn numbers(name: &str) -> MessageRequest {
    MessageRequest::AllExtensionNumbersOfType(name.to_owned())
}

fn list() -> MessageRequest {
    MessageRequest::ListServices(String::new())
}

async fn start() -> (Service, Upstream) {
    let upstream = Upstream::start().await;
    (Setup::of(&upstream).start().await, upstream)
}

/// Sends the requests on one stream. Checks that each has a response that repeats it, and that the stream ends with OK.
async fn responses<const N: usize>(
    service: &Service,
    version: &'static str,
    requests: [Option<MessageRequest>; N],
) -> [MessageResponse; N] {
    let host = "host".to_owned();
    let requests =
        requests.map(|message_request| ServerReflectionRequest { host: host.clone(), message_request });
    let mut client = Grpc::new(service.channel());
    client.ready().await.unwrap();
    let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let path = PathAndQuery::from_static(version);
    let call = client.streaming(Request::new(stream::iter(requests.clone())), path, codec);
    let mut stream = with_timeout("the stream", call).await.unwrap().into_inner();
    let mut responses = Vec::new();
    for request in requests {
        let response = with_timeout("a response", stream.message()).await.unwrap();
        let response = response.unwrap_or_else(|| panic!("no response to {request:?}"));
        assert_eq!((&response.valid_host, &response.original_request), (&host, &Some(request)));
        responses.push(response.message_response.unwrap());
    }
    assert_eq!(with_timeout("the end of the stream", stream.message()).await.unwrap(), None);
    responses.try_into().unwrap()
}

/// The names of the files in a response.
fn files(response: &MessageResponse) -> Vec<String> {
    let MessageResponse::FileDescriptorResponse(files) = response else { panic!("{response:?}") };
    let files = files.file_descriptor_proto.iter();
    files.map(|file| FileDescriptorProto::decode(&file[..]).unwrap().name().to_owned()).collect()
}

/// grpc/grpc #28443: the Python client reads `error_response`, so that a failed lookup is a missing descriptor. Other
/// clients send the next request on the same stream.
#[tokio::test]
async fn a_stream_continues_after_a_request_that_cannot_be_answered() {
    let (service, _upstream) = start().await;
    let not_found = Some(Code::NotFound);
    let cases = [
        (Some(symbol("google.rpc.Missing")), not_found),
        (Some(list()), None),
        (Some(symbol("")), not_found),
        // A package is not a symbol.
        (Some(symbol("google.rpc")), not_found),
        (Some(symbol("google.longrunning.Operations.CancelOperation")), None),
        (Some(symbol("google.longrunning.Operation.done")), None),
        (Some(symbol("google.longrunning.Operation.result")), None),
        (Some(symbol("google.protobuf.NULL_VALUE")), None),
        (Some(file("missing.proto")), not_found),
        (Some(file("google/rpc/status.proto")), None),
        (Some(extension(METHOD_OPTIONS, 1)), not_found),
        (Some(extension(METHOD_OPTIONS, -1)), not_found),
        (Some(extension("google.rpc.Missing", 1)), not_found),
        (Some(numbers("google.rpc.Missing")), not_found),
        // A service is not a message.
        (Some(numbers("google.longrunning.Operations")), not_found),
        (None, Some(Code::InvalidArgument)),
        (Some(list()), None),
    ];
    for version in VERSIONS {
        let responses = responses(&service, version, cases.clone().map(|(request, _)| request)).await;
        for ((request, wanted), response) in cases.iter().zip(&responses) {
            let code = match response {
                MessageResponse::ErrorResponse(error) => Some(Code::from(error.error_code)),
                _ => None,
            };
            assert_eq!(code, *wanted, "{version}: {request:?}: {response:?}");
        }
    }
}

/// grpc/grpc-rust #1077: tonic-reflection does not answer requests for extensions.
#[tokio::test]
async fn an_extension_is_found_by_its_number_and_by_its_name() {
    let (service, _upstream) = start().await;
    let requests = [
        extension(METHOD_OPTIONS, OPERATION_INFO),
        symbol("google.longrunning.operation_info"),
        numbers(METHOD_OPTIONS),
        numbers("google.rpc.Status"),
    ];
    for version in VERSIONS {
        let [by_number, by_name, options, none] =
            responses(&service, version, requests.clone().map(Some)).await;
        for response in [by_number, by_name] {
            assert_eq!(files(&response)[0], "google/longrunning/operations.proto");
        }
        for (response, name, wanted) in
            [(options, METHOD_OPTIONS, &[OPERATION_INFO][..]), (none, "google.rpc.Status", &[])]
        {
            let MessageResponse::AllExtensionNumbersResponse(numbers) = response else {
                panic!("{response:?}")
            };
            assert_eq!((&*numbers.base_type_name, &*numbers.extension_number), (name, wanted));
        }
    }
}

/// grpc/grpc #18009: grpcurl takes the first file of a response for the requested one. A C++ server sent the files of
/// an earlier request first.
#[tokio::test]
async fn the_requested_file_comes_first_and_then_its_imports() {
    let (service, _upstream) = start().await;
    for version in VERSIONS {
        let requests = ["google.rpc.Status", "google.longrunning.Operations", "google.rpc.Status"];
        let [status, operations, again] = responses(&service, version, requests.map(symbol).map(Some))
            .await
            .map(|files_of| files(&files_of));
        assert_eq!(status, ["google/rpc/status.proto", "google/protobuf/any.proto"]);
        assert_eq!(again, status);
        assert_eq!(operations[0], "google/longrunning/operations.proto");
        let mut sorted = operations[1..].to_vec();
        sorted.sort();
        let imports =
            ["any", "descriptor", "duration", "empty"].map(|name| format!("google/protobuf/{name}.proto"));
        assert_eq!(sorted[..4], imports);
        assert_eq!(sorted[4..], ["google/rpc/status.proto"]);
    }
}
