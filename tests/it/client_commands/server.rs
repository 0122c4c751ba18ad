//! A server of `google.longrunning.Operations`. The name of an operation selects the response.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countermand::proto::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
    operations_server::{Operations, OperationsServer},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response, Status, codegen::Service};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::client_commands::operations;

const GOOGLE: &str = "androidmanagement.googleapis.com";

/// The address and the kind of the server.
pub(crate) enum Address {
    Tcp,
    /// TCP, with the health NOT_SERVING.
    NotServing,
    Unix(PathBuf),
    Tls(TlsAcceptor),
}

/// Serves until the test's runtime ends. Returns the address, which accepts connections already.
pub(crate) async fn serve(address: Address) -> String {
    let operations = TestOperations::default();
    if let Address::Unix(path) = address {
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, ServingStatus::Serving, operations.clone()));
            }
        });
        return format!("unix:{}", path.display());
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bound = listener.local_addr().unwrap().to_string();
    let address = Arc::new(address);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (address, operations) = (Arc::clone(&address), operations.clone());
            tokio::spawn(async move {
                match &*address {
                    Address::NotServing => connection(stream, ServingStatus::NotServing, operations).await,
                    Address::Tls(acceptor) => {
                        // The client reports a failed handshake.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            connection(stream, ServingStatus::Serving, operations).await;
                        }
                    }
                    Address::Tcp | Address::Unix(_) => {
                        connection(stream, ServingStatus::Serving, operations).await;
                    }
                }
            });
        }
    });
    bound
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    health: ServingStatus,
    operations: TestOperations,
) {
    let broken = Arc::clone(&operations.broken);
    let operations = OperationsServer::new(operations);
    let health = HealthServer::new(FixedHealth(health));
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (mut operations, mut health) = (operations.clone(), health.clone());
        async move {
            let response = if request.uri().path().starts_with("/grpc.health.v1.Health/") {
                health.call(request).await
            } else {
                operations.call(request).await
            };
            Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    tokio::select! {
        // The result is ignored, because the tests assert the client's output only.
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
        () = broken.notified() => {}
    }
}

/// Operations whose responses depend on the last segment of the name, and sometimes on the number of earlier calls.
#[derive(Clone, Default)]
struct TestOperations {
    waits: Arc<AtomicUsize>,
    /// The signal to close every open connection.
    broken: Arc<Notify>,
}

#[tonic::async_trait]
impl Operations for TestOperations {
    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        echo_routing(&request, &request.get_ref().name)?;
        let timeout = request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        let name = request.into_inner().name;
        let mut details = ErrorDetails::new();
        match name.rsplit('/').next().unwrap() {
            "ok" | "cancelled" | "device-done" | "expired" | "hold" | "no-wait" => Ok(Response::new(())),
            "late-done" | "late-cancelled" | "late-pending" => {
                Err(Status::failed_precondition("The operation is already done."))
            }
            "hang" => std::future::pending().await,
            "echo-timeout" => Err(Status::aborted(timeout.unwrap())),
            "not-found" => {
                details.set_error_info("HTTP_404", GOOGLE, []);
                Err(Status::with_error_details(Code::NotFound, "Requested entity was not found.", details))
            }
            "quota" => {
                details.set_error_info("RATE_LIMIT_EXCEEDED", GOOGLE, []);
                details.set_retry_info(Some(Duration::from_secs(7)));
                Err(Status::with_error_details(Code::ResourceExhausted, "Quota exceeded", details))
            }
            "invalid" => {
                details.set_error_info("INVALID_NAME", "countermand", []);
                details.add_bad_request_violation("name", "has no device");
                Err(Status::with_error_details(Code::InvalidArgument, "not a name", details))
            }
            "struct" => Err(with_struct()),
            "hostile" => Err(Status::internal("\u{1b}[31mred\r\nnext line\u{202e}")),
            _ => Err(Status::unimplemented("")),
        }
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        echo_routing(&request, &request.get_ref().name)?;
        operations::page(&request.into_inner()).map(Response::new)
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        echo_routing(&request, &request.get_ref().name)?;
        operations::named(&request.into_inner().name).map(Response::new)
    }

    async fn delete_operation(&self, _: Request<DeleteOperationRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("delete"))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        echo_routing(&request, &request.get_ref().name)?;
        let nth = self.waits.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        if nth == 0 && request.name == "e/breaks" {
            self.broken.notify_waiters();
        }
        operations::waited(nth, request).await.map(Response::new)
    }
}

/// For a name that ends with `echo-routing`, an error whose message is the routing header.
fn echo_routing<T>(request: &Request<T>, name: &str) -> Result<(), Status> {
    if !name.ends_with("echo-routing") {
        return Ok(());
    }
    let values = request.metadata().get_all("x-goog-request-params");
    let values: Vec<_> = values.iter().map(|value| value.to_str().unwrap()).collect();
    Err(Status::aborted(values.join(", ")))
}

/// A status with a detail whose type has no proto, as the service sends it.
fn with_struct() -> Status {
    use prost_types::{Any, Struct, Value, value::Kind};
    let text = Value { kind: Some(Kind::StringValue("acme.Odd".to_owned())) };
    let number = Value { kind: Some(Kind::NumberValue(1.0)) };
    let fields = [("@type".to_owned(), text), ("n".to_owned(), number)].into();
    let detail = Any {
        type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
        value: Struct { fields }.encode_to_vec(),
    };
    let rpc = pb::Status { code: Code::Aborted.into(), message: String::new(), details: vec![detail] };
    Status::with_details(Code::Aborted, "see the details", rpc.encode_to_vec().into())
}

struct FixedHealth(ServingStatus);

#[tonic::async_trait]
impl Health for FixedHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" => Ok(Response::new(HealthCheckResponse { status: self.0.into() })),
            other => Err(Status::not_found(other)),
        }
    }

    type WatchStream = futures_util::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch"))
    }
}
