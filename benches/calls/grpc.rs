//! gRPC calls directly on `h2`, so that the callers cost less than the targets.
//!
//! A frame ("Length-Prefixed-Message" in gRPC over HTTP/2) is one byte for compression, four bytes for the length in
//! network byte order, then the message.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::Error;

/// The flow-control window of a connection, in bytes, as large as in gRPC clients. With HTTP/2's default of 64 KiB,
/// `h2` treats a few hundred small responses at once as an attack and closes the connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// The address of a target, and its TLS.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// `None` for plaintext. The target's certificate is for `localhost`.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The unix socket that callers use instead of the address.
    pub(crate) socket: Option<PathBuf>,
}

/// An open connection to a target.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    scheme: &'static str,
}

/// The head of every request to one method.
#[derive(Debug, Clone)]
pub(crate) struct Head(Request<()>);

/// A call in flight.
#[derive(Debug)]
pub(crate) struct Pending(ResponseFuture);

impl Connection {
    /// Connects to `endpoint`.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        if let Some(path) = &endpoint.socket {
            let requests = handshake(UnixStream::connect(path).await?).await?;
            return Ok(Self { requests, address: endpoint.address, scheme: "http" });
        }
        let socket = TcpStream::connect(endpoint.address).await?;
        socket.set_nodelay(true)?;
        let (requests, scheme) = match &endpoint.tls {
            None => (handshake(socket).await?, "http"),
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
                (handshake(stream).await?, "https")
            }
        };
        Ok(Self { requests, address: endpoint.address, scheme })
    }

    /// The head for `method`, with a deadline in whole seconds.
    pub(crate) fn head(&self, method: &str, deadline: Duration) -> Result<Head, Error> {
        let request = Request::post(format!("{}://{}{method}", self.scheme, self.address))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("user-agent", "countermand-bench")
            .header("grpc-timeout", format!("{}S", deadline.as_secs()))
            .body(())?;
        Ok(Head(request))
    }

    /// Sends a call when the peer allows another stream.
    pub(crate) async fn begin(&self, head: &Head, message: &[u8]) -> Result<Pending, Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(head.0.clone(), false)?;
        body.send_data(frame(message)?, true)?;
        Ok(Pending(response))
    }
}

impl Pending {
    /// The encoded message of the response. A status other than OK is an error.
    pub(crate) async fn message(self) -> Result<Bytes, Error> {
        let (head, mut body) = self.0.await?.into_parts();
        let mut message = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            message.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?;
        if head.status != StatusCode::OK {
            return Err(format!("HTTP status {}", head.status).into());
        }
        // A response without a message has its status among the headers.
        expect_ok(trailers.as_ref().unwrap_or(&head.headers))?;
        unframe(message.freeze())
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = h2::client::Builder::new()
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(stream)
        .await?;
    // When the connection ends, every later call fails.
    tokio::spawn(connection);
    Ok(requests.ready().await?)
}

/// Prefixes an uncompressed `message`.
pub(crate) fn frame(message: &[u8]) -> Result<Bytes, Error> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// The message of a frame.
pub(crate) fn unframe(mut frame: Bytes) -> Result<Bytes, Error> {
    if frame.len() < 5 {
        return Err("there is no message".into());
    }
    let prefix = frame.split_to(5);
    let length = [prefix[1], prefix[2], prefix[3], prefix[4]];
    if prefix[0] != 0 || u32::from_be_bytes(length) as usize != frame.len() {
        return Err("the response is not one whole, uncompressed message".into());
    }
    Ok(frame)
}

fn expect_ok(trailers: &HeaderMap) -> Result<(), Error> {
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        Some(status) => {
            let message = trailers.get("grpc-message");
            Err(format!("gRPC status {status:?}, message {message:?}").into())
        }
        None => Err("the response has no gRPC status".into()),
    }
}
