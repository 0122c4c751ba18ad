//! An upstream on plain TCP. It reads the head of a request and sends scripted bytes, one script per connection.
//! Dropping the upstream fails the test when a connection is missing or unexpected.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
    task::JoinHandle,
};

use super::with_timeout;

/// The response on one connection. Each but [`Close`](Self::Close) waits for the head of a request.
#[derive(Clone, Debug)]
pub(crate) enum RawResponse {
    /// Closes the connection before it reads a byte.
    Close,
    /// Sends these bytes, then closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends these bytes, then resets the connection.
    SendAndReset(Vec<u8>),
    /// Sends these bytes, then keeps the connection open.
    SendAndHang(Vec<u8>),
    /// Sends the head, then the chunk repeatedly until the client closes the connection.
    SendEndlessly { head: Vec<u8>, chunk: Vec<u8> },
}

#[derive(Default)]
struct Progress {
    connections: usize,
    /// The body bytes of an endless response that were written before the client closed the connection.
    written: Option<usize>,
}

/// A running upstream.
pub(crate) struct RawUpstream {
    pub(crate) url: String,
    progress: watch::Sender<Progress>,
    expected: usize,
    serving: JoinHandle<()>,
}

impl RawUpstream {
    /// Sends one of `responses` per connection, in order.
    pub(crate) async fn start(responses: impl IntoIterator<Item = RawResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let responses: Vec<RawResponse> = responses.into_iter().collect();
        let expected = responses.len();
        let progress = watch::Sender::new(Progress::default());
        let serving = tokio::spawn(serve(listener, responses, progress.clone()));
        Self { url: format!("http://{address}"), progress, expected, serving }
    }

    /// Waits until the client closes the connection of an endless response. Returns the body bytes written.
    pub(crate) async fn written(&self) -> usize {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| progress.written.is_some());
        with_timeout("the client to stop reading", ended).await.unwrap().written.unwrap()
    }
}

async fn serve(listener: TcpListener, responses: Vec<RawResponse>, progress: watch::Sender<Progress>) {
    let responses = Arc::new(Mutex::new(responses.into_iter()));
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        progress.send_modify(|progress| progress.connections += 1);
        let Some(response) = responses.lock().await.next() else { continue };
        tokio::spawn(send_response(socket, response, progress.clone()));
    }
}

async fn send_response(mut socket: TcpStream, response: RawResponse, progress: watch::Sender<Progress>) {
    if matches!(response, RawResponse::Close) || !read_head(&mut socket).await {
        return;
    }
    // The client may close the connection during a write.
    match response {
        RawResponse::Close => {}
        RawResponse::SendAndClose(bytes) => {
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
        }
        RawResponse::SendAndReset(bytes) => {
            let _ = socket.write_all(&bytes).await;
            socket.set_zero_linger().unwrap();
        }
        RawResponse::SendAndHang(bytes) => {
            let _ = socket.write_all(&bytes).await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
        RawResponse::SendEndlessly { head, chunk } => {
            let mut written = 0;
            if socket.write_all(&head).await.is_ok() {
                while let Ok(()) = socket.write_all(&chunk).await {
                    written += chunk.len();
                }
            }
            progress.send_modify(|progress| progress.written = Some(written));
        }
    }
}

/// Whether a whole request head arrived.
async fn read_head(socket: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// A loopback address that refuses connections while the socket lives. The socket is bound, so that no other process
/// gets the port, and does not listen.
pub(crate) fn refusing_address() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            assert_eq!(self.progress.borrow().connections, self.expected, "connections at the upstream");
        }
    }
}
