//! A gRPC client straight on HTTP/2, for what the generated one hides: it sets no timer of its own, sends
//! what it is told, and shows headers and trailers as they come.

use std::net::SocketAddr;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use countermand::proto::longrunning::CancelOperationRequest;
use h2::{
    SendStream,
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

use super::soon;

pub(crate) const CANCEL: &str = "/google.longrunning.Operations/CancelOperation";
pub(crate) const GET: &str = "/google.longrunning.Operations/GetOperation";
pub(crate) const LIST: &str = "/google.longrunning.Operations/ListOperations";
pub(crate) const WAIT: &str = "/google.longrunning.Operations/WaitOperation";

/// A connection.
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose answer has not been waited for yet. Dropped, it is reset with CANCEL.
pub(crate) struct Started(pub(crate) ResponseFuture);

/// An answer: the trailers, which are the headers when there is nothing else.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) trailers: HeaderMap,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// On a connection that stands.
    pub(crate) async fn over(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::with(&h2::client::Builder::new(), socket).await
    }

    /// Answers whose message cannot come: the caller opens no window for it.
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

    /// Waits for the connection's end: what the server, or the loss of it, had to say.
    pub(crate) async fn end(self) -> Result<(), h2::Error> {
        let Self { requests, connection } = self;
        let end = soon("the end of the connection", connection).await.unwrap();
        drop(requests);
        end
    }

    /// Sends a whole call of `CancelOperation`.
    pub(crate) async fn start(&self, name: &str, headers: &[(&str, &str)]) -> Started {
        self.start_raw(CANCEL, headers, &by_name(name)).await
    }

    /// Sends a whole call with an encoded message.
    pub(crate) async fn start_raw(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Started {
        let (started, mut body) = self.begin(request(path, headers)).await;
        body.send_data(framed(message), true).unwrap();
        started
    }

    /// Begins a call of `CancelOperation` whose message does not come as long as what this answers is held.
    pub(crate) async fn start_without_a_message(
        &self,
        headers: &[(&str, &str)],
    ) -> (Started, SendStream<Bytes>) {
        self.begin(request(CANCEL, headers)).await
    }

    /// Sends the head of whatever request, and leaves its body to the test.
    pub(crate) async fn begin(&self, request: Request<()>) -> (Started, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, body) = requests.send_request(request, false).unwrap();
        (Started(response), body)
    }

    /// `CancelOperation` to its end.
    pub(crate) async fn cancel(&self, name: &str, headers: &[(&str, &str)]) -> Answer {
        self.start(name, headers).await.answer().await
    }

    /// Whether a cancel is answered OK; not, when the connection is gone.
    pub(crate) async fn try_cancel(&self, name: &str) -> bool {
        let Ok(mut requests) = self.requests.clone().ready().await else { return false };
        let Ok((response, mut body)) = requests.send_request(request(CANCEL, &[]), false) else {
            return false;
        };
        body.send_data(framed(&by_name(name)), true).unwrap_or_default();
        soon("an answer", response).await.is_ok()
    }

    /// Waits until the service has taken up every call that was started here. It runs on the one thread of its
    /// test and takes a connection's calls in their order: the earlier ones wait when a later one is answered.
    pub(crate) async fn taken_up(&self) {
        assert_eq!(self.cancel("none", &[]).await.code(), Code::InvalidArgument);
    }

    /// Whether the server still takes calls on this connection: it has not said GOAWAY.
    pub(crate) async fn takes_calls(&self) -> bool {
        tokio::task::yield_now().await;
        self.requests.clone().ready().await.is_ok()
    }

    /// Closes the connection under all its calls, without a goodbye.
    pub(crate) fn hang_up(self) {
        self.connection.abort();
    }
}

/// A request that is nothing but a name, of any method but ListOperations: in the others it is field 1.
pub(crate) fn by_name(name: &str) -> Vec<u8> {
    CancelOperationRequest { name: name.to_owned() }.encode_to_vec()
}

/// The head of a call.
fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://service{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// A message as gRPC sends it: not compressed, and after its length.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

impl Started {
    /// The HTTP status, of what is refused before gRPC has a say in it.
    pub(crate) async fn http_status(self) -> u16 {
        soon("an answer", self.0).await.unwrap().status().as_u16()
    }

    pub(crate) async fn answer(self) -> Answer {
        soon("an answer", async {
            let response = self.0.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let (head, mut body) = response.into_parts();
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk.unwrap().len()).unwrap();
            }
            let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
            Answer { trailers }
        })
        .await
    }
}

impl Answer {
    fn text(&self, name: &str) -> &str {
        self.trailers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> Code {
        Code::from_bytes(self.text("grpc-status").as_bytes())
    }

    pub(crate) fn message(&self) -> String {
        percent_decode_str(self.text("grpc-message")).decode_utf8().unwrap().into_owned()
    }

    /// What the generated client makes of it, as far as tests look at it.
    pub(crate) fn status(&self) -> Status {
        Status::with_details(self.code(), self.message(), self.details().into())
    }

    /// The bytes of the `google.rpc.Status` of the details.
    fn details(&self) -> Vec<u8> {
        BASE64_STANDARD_NO_PAD.decode(self.text("grpc-status-details-bin").trim_end_matches('=')).unwrap()
    }

    /// What the trailers weigh, as HTTP/2 counts a header list (RFC 9113, 6.5.2).
    pub(crate) fn weight(&self) -> usize {
        self.trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }
}
