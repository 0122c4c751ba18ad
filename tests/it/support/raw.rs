//! An upstream of bare TCP: for each connection it reads a request's head and does as it is told. Dropped
//! at the end of a test, it fails it when a connection is missing or was not expected.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
    task::JoinHandle,
};

use super::soon;

/// What one connection gets.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Its end, before a byte of it was read.
    CloseAtOnce,
    /// These bytes after the head of a request, and then its end.
    Answer(Vec<u8>),
    /// These bytes after the head of a request, and then a reset.
    AnswerAndReset(Vec<u8>),
    /// These bytes after the head of a request, and then nothing.
    AnswerAndHold(Vec<u8>),
    /// The first after the head of a request, and then the second again and again until nobody takes it.
    Endless(Vec<u8>, Vec<u8>),
}

#[derive(Default)]
struct Log {
    connections: usize,
    /// Of an endless answer, how many bytes were taken, once it was refused.
    taken: Option<usize>,
}

/// A running upstream.
pub(crate) struct RawUpstream {
    pub(crate) url: String,
    log: watch::Sender<Log>,
    expected: usize,
    serving: JoinHandle<()>,
}

impl RawUpstream {
    /// Does each of `acts` for one connection, in their order.
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acts: Vec<Act> = acts.into_iter().collect();
        let expected = acts.len();
        let log = watch::Sender::new(Log::default());
        let serving = tokio::spawn(serve(listener, acts, log.clone()));
        Self { url: format!("http://{address}"), log, expected, serving }
    }

    /// Waits until nobody takes the endless answer any more; the bytes that were taken.
    pub(crate) async fn taken(&self) -> usize {
        let mut log = self.log.subscribe();
        let refused = soon("the end of reading", log.wait_for(|log| log.taken.is_some())).await;
        refused.unwrap().taken.unwrap()
    }
}

async fn serve(listener: TcpListener, acts: Vec<Act>, log: watch::Sender<Log>) {
    let acts = Arc::new(Mutex::new(acts.into_iter()));
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        log.send_modify(|log| log.connections += 1);
        let Some(act) = acts.lock().await.next() else { continue };
        tokio::spawn(perform(socket, act, log.clone()));
    }
}

async fn perform(mut socket: TcpStream, act: Act, log: watch::Sender<Log>) {
    if matches!(act, Act::CloseAtOnce) || !read_head(&mut socket).await {
        return;
    }
    // The client may go in the middle of what it is sent.
    match act {
        Act::CloseAtOnce => {}
        Act::Answer(bytes) => {
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
        }
        Act::AnswerAndReset(bytes) => {
            let _ = socket.write_all(&bytes).await;
            socket.set_zero_linger().unwrap();
        }
        Act::AnswerAndHold(bytes) => {
            let _ = socket.write_all(&bytes).await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
        Act::Endless(head, again) => {
            let mut taken = 0;
            if socket.write_all(&head).await.is_ok() {
                while let Ok(()) = socket.write_all(&again).await {
                    taken += again.len();
                }
            }
            log.send_modify(|log| log.taken = Some(taken));
        }
    }
}

/// Whether a whole head came.
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

/// An address of loopback that refuses connections for as long as the socket lives: it is bound, so that
/// nobody else gets it, and does not listen.
pub(crate) fn refusing() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            assert_eq!(self.log.borrow().connections, self.expected, "connections at the upstream");
        }
    }
}
