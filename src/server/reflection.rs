//! Server reflection, v1 and v1alpha. It has every descriptor that a client without stubs needs to call the service
//! and to decode its responses, including error details and `Struct`.
//!
//! An unknown symbol, file or extension is an `error_response` in the stream, and the stream continues
//! (`grpc/reflection/v1/reflection.proto`). The service of tonic-reflection ends the stream instead, and knows no
//! extensions, so only its generated types are used.

use std::{collections::HashMap, convert::Infallible, sync::LazyLock};

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use http::{Request, Uri};
use prost_reflect::{DescriptorPool, FileDescriptor};
use tokio::sync::watch;
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::{
    v1::{
        ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
        ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
        server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
        server_reflection_server::{ServerReflection, ServerReflectionServer},
    },
    v1alpha,
};
use tower::{Service, util::MapRequest};

use super::until_drain::UntilDrain;
use crate::{operations::status, proto, serving::Serving};

const V1_PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA_PATH: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// `grpc.reflection.v1.ServerReflection`. Its streams end when `serving` is `Draining`.
#[must_use]
pub fn v1(
    serving: watch::Receiver<Serving>,
    max_request_bytes: usize,
) -> UntilDrain<ServerReflectionServer<Reflection>> {
    let reflection = Reflection { max_request_bytes };
    let service = ServerReflectionServer::new(reflection).max_decoding_message_size(max_request_bytes);
    UntilDrain::new(service, serving)
}

/// `grpc.reflection.v1alpha.ServerReflection`, the only version that grpcurl up to 1.8 and many other tools
/// support. Its streams end when `serving` is `Draining`.
///
/// The messages of v1 and v1alpha have the same fields, numbers and types. The path is the only difference on the wire.
#[must_use]
pub fn v1alpha<B>(
    serving: watch::Receiver<Serving>,
    max_request_bytes: usize,
) -> impl Service<Request<B>, Response = http::Response<tonic::body::Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send> + Send + 'static,
{
    MapRequest::new(v1(serving, max_request_bytes), |mut request: Request<B>| {
        // The v1 service answers any other method with UNIMPLEMENTED.
        if request.uri().path() == V1ALPHA_PATH {
            *request.uri_mut() = Uri::from_static(V1_PATH);
        }
        request
    })
}

/// The descriptors that both versions serve. Both list all services, themselves and each other.
static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    let mut pool = proto::DESCRIPTORS.clone();
    for set in [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        pool.decode_file_descriptor_set(set)
            .expect("the descriptors are compiled in, and a test decodes all of them");
    }
    Descriptors::new(pool)
});

/// Answers the requests of a stream one by one. A request that cannot be answered is an `error_response`.
#[derive(Debug, Clone, Copy)]
pub struct Reflection {
    max_request_bytes: usize,
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        requests: tonic::Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<tonic::Response<Self::ServerReflectionInfoStream>, Status> {
        let limit = self.max_request_bytes;
        let requests = requests.into_inner().map_err(move |error| match error.code() {
            Code::OutOfRange => status::too_long(limit),
            _ => status::from_tonic(&error),
        });
        let responses = requests.map_ok(|request| DESCRIPTORS.response(request));
        Ok(tonic::Response::new(responses.boxed()))
    }
}

/// A pool, the file that declares each symbol, and the response for each file by its name. The responses are encoded
/// once, because any client may request them.
struct Descriptors {
    pool: DescriptorPool,
    symbols: HashMap<String, FileDescriptor>,
    files: HashMap<String, FileDescriptorResponse>,
}

impl Descriptors {
    fn new(pool: DescriptorPool) -> Self {
        let mut symbols = HashMap::new();
        let mut insert = |name: &str, file| symbols.insert(name.to_owned(), file);
        for message in pool.all_messages() {
            insert(message.full_name(), message.parent_file());
            for field in message.fields() {
                insert(field.full_name(), message.parent_file());
            }
            for oneof in message.oneofs() {
                insert(oneof.full_name(), message.parent_file());
            }
        }
        for enumeration in pool.all_enums() {
            insert(enumeration.full_name(), enumeration.parent_file());
            for value in enumeration.values() {
                insert(value.full_name(), enumeration.parent_file());
            }
        }
        for extension in pool.all_extensions() {
            insert(extension.full_name(), extension.parent_file());
        }
        for service in pool.services() {
            insert(service.full_name(), service.parent_file());
            for method in service.methods() {
                insert(method.full_name(), service.parent_file());
            }
        }
        let files = pool.files().map(|file| (file.name().to_owned(), with_imports(file))).collect();
        Self { pool, symbols, files }
    }

    fn response(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let result = match &request.message_request {
            Some(message) => self.message_response(message),
            None => {
                Err(error(Code::InvalidArgument, "no field of message_request is set, or an unknown one"))
            }
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(result.unwrap_or_else(MessageResponse::ErrorResponse)),
            original_request: Some(request),
        }
    }

    fn message_response(&self, request: &MessageRequest) -> Result<MessageResponse, ErrorResponse> {
        let not_found = |message| error(Code::NotFound, message);
        let file = |name: &str| {
            let response = self.files.get(name).cloned().map(MessageResponse::FileDescriptorResponse);
            response.ok_or_else(|| not_found("unknown file"))
        };
        Ok(match request {
            MessageRequest::FileByFilename(name) => file(name)?,
            MessageRequest::FileContainingSymbol(name) => {
                let declared_in = self.symbols.get(name);
                file(declared_in.ok_or_else(|| not_found("unknown symbol"))?.name())?
            }
            MessageRequest::FileContainingExtension(request) => {
                let message = self.pool.get_message_by_name(&request.containing_type);
                let message = message.ok_or_else(|| not_found("unknown message type"))?;
                let number = u32::try_from(request.extension_number).ok();
                let extension = number.and_then(|number| message.get_extension(number));
                file(extension.ok_or_else(|| not_found("unknown extension"))?.parent_file().name())?
            }
            MessageRequest::AllExtensionNumbersOfType(name) => {
                let message = self.pool.get_message_by_name(name);
                let message = message.ok_or_else(|| not_found("unknown message type"))?;
                let numbers = message.extensions().filter_map(|extension| extension.number().try_into().ok());
                MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: numbers.collect(),
                })
            }
            MessageRequest::ListServices(_) => {
                let services = self.pool.services().map(|service| service.full_name().to_owned());
                MessageResponse::ListServicesResponse(ListServiceResponse {
                    service: services.map(|name| ServiceResponse { name }).collect(),
                })
            }
        })
    }
}

/// The file, and then the files that it imports, directly or indirectly. Some clients take the first file for the
/// requested one.
fn with_imports(file: FileDescriptor) -> FileDescriptorResponse {
    let mut files = vec![file];
    let mut next = 0;
    while let Some(file) = files.get(next) {
        let imports: Vec<_> = file.dependencies().collect();
        for import in imports {
            if files.iter().all(|file| file.name() != import.name()) {
                files.push(import);
            }
        }
        next += 1;
    }
    FileDescriptorResponse {
        file_descriptor_proto: files.iter().map(FileDescriptor::encode_to_vec).collect(),
    }
}

/// The message does not quote the request, because the response has the request.
fn error(code: Code, message: &str) -> ErrorResponse {
    ErrorResponse { error_code: code.into(), error_message: message.to_owned() }
}

#[cfg(test)]
mod tests;
