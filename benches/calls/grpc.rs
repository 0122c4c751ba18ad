//! A gRPC call straight on `h2`: the load must cost less than what it measures.
//!
//! The framing is that of the gRPC specification of HTTP/2 as a transport: one byte that says whether
//! the message is compressed, four of its length in network order, then the message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Fault;

/// In bytes, and as large as gRPC clients have it. With HTTP/2's own 64 KiB, `h2` takes a few hundred
/// small answers that arrive at once for an attack, and closes the connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Where a target takes calls, and how.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// `None` for plaintext. The target's certificate says `localhost`.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// A kept connection to a target.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    scheme: &'static str,
}

/// The head of every request to one method.
#[derive(Debug, Clone)]
pub(crate) struct Head(Request<()>);

/// A call that was sent and whose answer is still to come.
#[derive(Debug)]
pub(crate) struct Pending(ResponseFuture);

impl Connection {
    /// Connects to `door`.
    ///
    /// # Errors
    ///
    /// When nobody listens there, or what listens does not speak HTTP/2, or not the TLS that it should.
    pub(crate) async fn open(door: &Door) -> Result<Self, Fault> {
        let socket = TcpStream::connect(door.address).await?;
        socket.set_nodelay(true)?;
        let (requests, scheme) = match &door.tls {
            None => (handshake(socket).await?, "http"),
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
                (handshake(stream).await?, "https")
            }
        };
        Ok(Self { requests, address: door.address, scheme })
    }

    /// The head for `method`, with a deadline in whole seconds.
    ///
    /// # Errors
    ///
    /// When `method` is no path.
    pub(crate) fn head(&self, method: &str, deadline: Duration) -> Result<Head, Fault> {
        let request = Request::post(format!("{}://{}{method}", self.scheme, self.address))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("user-agent", "countermand-bench")
            .header("grpc-timeout", format!("{}S", deadline.as_secs()))
            .body(())?;
        Ok(Head(request))
    }

    /// Makes a call and returns the encoded message of its answer.
    ///
    /// # Errors
    ///
    /// When the connection fails, the status is not OK, or the answer is not one whole message.
    pub(crate) async fn call(&self, head: &Head, message: &[u8]) -> Result<Bytes, Fault> {
        self.begin(head, message).await?.answer().await
    }

    /// Sends a call, once the peer allows another stream.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub(crate) async fn begin(&self, head: &Head, message: &[u8]) -> Result<Pending, Fault> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(head.0.clone(), false)?;
        body.send_data(frame(message)?, true)?;
        Ok(Pending(response))
    }
}

impl Pending {
    /// The encoded message of the answer.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub(crate) async fn answer(self) -> Result<Bytes, Fault> {
        let (head, mut body) = self.0.await?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?;
        if head.status != StatusCode::OK {
            return Err(format!("HTTP status {}", head.status).into());
        }
        // An answer without a message has its status among the headers.
        expect_ok(trailers.as_ref().unwrap_or(&head.headers))?;
        unframe(answer.freeze())
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = h2::client::Builder::new()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await?;
    // When it ends, every later call fails.
    tokio::spawn(connection);
    Ok(requests.ready().await?)
}

/// `message` with the prefix of an uncompressed one.
///
/// # Errors
///
/// When it is 4 GiB or longer.
pub(crate) fn frame(message: &[u8]) -> Result<Bytes, Fault> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// The message of a frame.
///
/// # Errors
///
/// When it is not one whole, uncompressed message.
pub(crate) fn unframe(mut frame: Bytes) -> Result<Bytes, Fault> {
    if frame.len() < 5 {
        return Err("there is no message".into());
    }
    let prefix = frame.split_to(5);
    let length = [prefix[1], prefix[2], prefix[3], prefix[4]];
    if prefix[0] != 0 || u32::from_be_bytes(length) as usize != frame.len() {
        return Err("that is not one whole, uncompressed message".into());
    }
    Ok(frame)
}

fn expect_ok(trailers: &HeaderMap) -> Result<(), Fault> {
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        Some(status) => {
            let message = trailers.get("grpc-message");
            Err(format!("gRPC status {status:?}, message {message:?}").into())
        }
        None => Err("the answer has no gRPC status".into()),
    }
}
