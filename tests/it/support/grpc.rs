//! A gRPC client directly on HTTP/2, for details that the generated client hides. It sets no timeout of its own, sends
//! any headers and any message, and returns the headers and trailers unchanged.

use std::net::SocketAddr;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use countermand::proto::longrunning::CancelOperationRequest;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use percent_encoding::percent_decode_str;
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tonic::{Code, Status};

use super::with_timeout;

pub(crate) const CANCEL: &str = "/google.longrunning.Operations/CancelOperation";
pub(crate) const GET: &str = "/google.longrunning.Operations/GetOperation";
pub(crate) const LIST: &str = "/google.longrunning.Operations/ListOperations";
pub(crate) const WAIT: &str = "/google.longrunning.Operations/WaitOperation";

/// An HTTP/2 connection for gRPC calls.
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose response has not been awaited. Dropping it resets the stream with CANCEL.
pub(crate) struct PendingCall(pub(crate) ResponseFuture);

/// The end of a call: its trailers, or its headers when the response is trailers-only.
#[derive(Debug)]
pub(crate) struct GrpcResponse {
    pub(crate) trailers: HeaderMap,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Uses an open connection.
    pub(crate) async fn over(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::with(&h2::client::Builder::new(), socket).await
    }

    /// Opens a connection with a flow-control window of zero, so that the server cannot send a message.
    pub(crate) async fn open_without_a_window(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        Self::with(h2::client::Builder::new().initial_window_size(0), socket).await
    }

    async fn with(
        http2: &h2::client::Builder,
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let (requests, connection) = http2.handshake(socket).await.unwrap();
        Self { requests, connection: tokio::spawn(connection) }
    }

    /// Waits for the connection to end. Returns the connection error, if there is one.
    pub(crate) async fn end(self) -> Result<(), h2::Error> {
        let Self { requests, connection } = self;
        let end = with_timeout("the end of the connection", connection).await.unwrap();
        drop(requests);
        end
    }

    /// Sends a `CancelOperation` request.
    pub(crate) async fn start(&self, name: &str, headers: &[(&str, &str)]) -> PendingCall {
        self.start_raw(CANCEL, headers, &by_name(name)).await
    }

    /// Sends a request with an encoded message.
    pub(crate) async fn start_raw(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        message: &[u8],
    ) -> PendingCall {
        let (started, mut body) = self.send_headers(request(path, headers)).await;
        body.send_data(grpc_frame(message), true).unwrap();
        started
    }

    /// Sends the headers of a `CancelOperation` request. The caller sends the message with the returned stream.
    pub(crate) async fn start_without_a_message(
        &self,
        headers: &[(&str, &str)],
    ) -> (PendingCall, SendStream<Bytes>) {
        self.send_headers(request(CANCEL, headers)).await
    }

    /// Sends the headers of any request. The caller sends the body with the returned stream.
    pub(crate) async fn send_headers(&self, request: Request<()>) -> (PendingCall, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, body) = requests.send_request(request, false).unwrap();
        (PendingCall(response), body)
    }

    /// Calls `CancelOperation` and awaits the response.
    pub(crate) async fn cancel(&self, name: &str, headers: &[(&str, &str)]) -> GrpcResponse {
        self.start(name, headers).await.response().await
    }

    /// Whether a cancel gets a response. Returns `false` when the connection is closed.
    pub(crate) async fn try_cancel(&self, name: &str) -> bool {
        let Ok(mut requests) = self.requests.clone().ready().await else { return false };
        let Ok((response, mut body)) = requests.send_request(request(CANCEL, &[]), false) else {
            return false;
        };
        body.send_data(grpc_frame(&by_name(name)), true).unwrap_or_default();
        with_timeout("a response", response).await.is_ok()
    }

    /// Waits until the service has started every call that this connection sent. The service shares one thread with
    /// the test and reads the requests of a connection in order. So when this later call is answered, the earlier
    /// calls have started.
    pub(crate) async fn wait_until_received(&self) {
        assert_eq!(self.cancel("none", &[]).await.code(), Code::InvalidArgument);
    }

    /// Whether the server still accepts calls on this connection, because it has not sent GOAWAY.
    pub(crate) async fn accepts_calls(&self) -> bool {
        tokio::task::yield_now().await;
        self.requests.clone().ready().await.is_ok()
    }

    /// Closes the connection without GOAWAY while its calls are in flight.
    pub(crate) fn disconnect(self) {
        self.connection.abort();
    }
}

/// An encoded request with a name only. The name is field 1 in every request but ListOperationsRequest.
pub(crate) fn by_name(name: &str) -> Vec<u8> {
    CancelOperationRequest { name: name.to_owned() }.encode_to_vec()
}

/// The headers of a call.
pub(crate) fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://service{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// An uncompressed message with the gRPC length prefix.
pub(crate) fn grpc_frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

impl PendingCall {
    /// The HTTP status, for a request that is refused before gRPC handles it.
    pub(crate) async fn http_status(self) -> u16 {
        with_timeout("a response", self.0).await.unwrap().status().as_u16()
    }

    /// The body of a response that goes on. `None` if the response is an error.
    pub(crate) async fn stream(self) -> Option<RecvStream> {
        let response = with_timeout("the head of a response", self.0).await.unwrap();
        let is_error = response.headers().contains_key("grpc-status");
        (!is_error).then(|| response.into_body())
    }

    pub(crate) async fn response(self) -> GrpcResponse {
        with_timeout("a response", async {
            let response = self.0.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let (head, mut body) = response.into_parts();
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk.unwrap().len()).unwrap();
            }
            let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
            GrpcResponse { trailers }
        })
        .await
    }
}

impl GrpcResponse {
    fn text(&self, name: &str) -> &str {
        self.trailers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> Code {
        Code::from_bytes(self.text("grpc-status").as_bytes())
    }

    pub(crate) fn message(&self) -> String {
        percent_decode_str(self.text("grpc-message")).decode_utf8().unwrap().into_owned()
    }

    /// The status as the generated client decodes it, without metadata.
    pub(crate) fn status(&self) -> Status {
        Status::with_details(self.code(), self.message(), self.details().into())
    }

    /// The encoded `google.rpc.Status` of `grpc-status-details-bin`.
    fn details(&self) -> Vec<u8> {
        BASE64_STANDARD_NO_PAD.decode(self.text("grpc-status-details-bin").trim_end_matches('=')).unwrap()
    }

    /// The size of the trailers, as HTTP/2 counts a header list (RFC 9113, section 6.5.2).
    pub(crate) fn header_list_size(&self) -> usize {
        self.trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }
}
