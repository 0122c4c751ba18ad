//! An upstream that writes HTTP/2 frames over TLS (RFC 9113), because libraries cannot refuse streams or send GOAWAY
//! during a burst, as Google's front ends do. Every accepted request is answered 200 without a body. Dropping the
//! upstream fails the test when a client exceeded the announced limit.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
};

use super::tls::{Authority, H2};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frame types and flags.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 0x5;

/// SETTINGS_MAX_CONCURRENT_STREAMS.
const MAX_STREAMS: u16 = 3;
/// The error code REFUSED_STREAM.
const REFUSED_STREAM: u32 = 7;

/// `:status: 200` in HPACK's static table.
const OK: &[u8] = &[0x88];

/// The limits of each connection, and the latency of responses.
#[derive(Clone, Copy)]
pub(crate) struct Http2Limits {
    /// The concurrent streams that SETTINGS allow.
    pub(crate) announced_streams: u32,
    /// The concurrent streams that the upstream accepts. It refuses others, even within the announced limit.
    pub(crate) accepted_streams: usize,
    /// The number of requests after which a connection sends GOAWAY. Later requests are ignored.
    pub(crate) goaway_after: Option<usize>,
    /// The time until each response.
    pub(crate) latency: Duration,
}

/// Counts over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: usize,
    pub(crate) answered: usize,
    pub(crate) refused: usize,
    pub(crate) ignored: usize,
    /// The most concurrent streams on one connection.
    pub(crate) max_open: usize,
    /// Streams over the announced limit, after the client acknowledged SETTINGS.
    pub(crate) over_limit: usize,
}

/// A running upstream.
pub(crate) struct Http2Upstream {
    pub(crate) url: String,
    counts: Arc<Mutex<Counts>>,
    serving: JoinHandle<()>,
}

impl Http2Upstream {
    pub(crate) async fn start(authority: &Authority, limits: Http2Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = authority.acceptor(&[H2]);
        let counts = Arc::new(Mutex::new(Counts::default()));
        let counted = Arc::clone(&counts);
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                counted.lock().unwrap().connections += 1;
                let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let (reader, mut writer) = tokio::io::split(socket);
                    let (frames, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
                    tokio::spawn(Connection::new(limits, counts, frames).serve(reader));
                    while let Some(frame) = outgoing.recv().await {
                        if writer.write_all(&frame).await.is_err() {
                            break;
                        }
                        writer.flush().await.unwrap_or_default();
                    }
                    let _ = writer.shutdown().await;
                });
            }
        });
        Self { url, counts, serving }
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            assert_eq!(self.counts().over_limit, 0, "streams over the announced limit");
        }
    }
}

/// One connection. It ends when the client stops sending and the last response is queued.
struct Connection {
    limits: Http2Limits,
    counts: Arc<Mutex<Counts>>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    open: Arc<Mutex<HashSet<u32>>>,
    requests: usize,
    goaway_sent: bool,
    settings_acknowledged: bool,
}

impl Connection {
    fn new(
        limits: Http2Limits,
        counts: Arc<Mutex<Counts>>,
        outgoing: mpsc::UnboundedSender<Vec<u8>>,
    ) -> Self {
        let open = Arc::default();
        Self { limits, counts, outgoing, open, requests: 0, goaway_sent: false, settings_acknowledged: false }
    }

    async fn serve(mut self, mut reader: impl AsyncRead + Unpin) {
        let mut preface = [0; PREFACE.len()];
        if reader.read_exact(&mut preface).await.is_err() || preface != *PREFACE {
            return;
        }
        let mut limit = MAX_STREAMS.to_be_bytes().to_vec();
        limit.extend(self.limits.announced_streams.to_be_bytes());
        send(&self.outgoing, SETTINGS, 0, 0, &limit);
        let mut head = [0; 9];
        while reader.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            if reader.read_exact(&mut payload).await.is_err() {
                return;
            }
            match (head[3], head[4] & ACK) {
                (SETTINGS, ACK) => self.settings_acknowledged = true,
                (SETTINGS, _) => send(&self.outgoing, SETTINGS, ACK, 0, &[]),
                (PING, 0) => send(&self.outgoing, PING, ACK, 0, &payload),
                (RST_STREAM, _) => drop(self.open.lock().unwrap().remove(&stream)),
                (HEADERS, _) => self.request(stream),
                _ => {}
            }
        }
    }

    fn request(&mut self, stream: u32) {
        let mut counts = self.counts.lock().unwrap();
        if self.goaway_sent {
            counts.ignored += 1;
            return;
        }
        let mut open = self.open.lock().unwrap();
        if self.settings_acknowledged && open.len() >= self.limits.announced_streams as usize {
            counts.over_limit += 1;
        }
        if open.len() >= self.limits.accepted_streams {
            counts.refused += 1;
            send(&self.outgoing, RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes());
            return;
        }
        open.insert(stream);
        counts.max_open = counts.max_open.max(open.len());
        self.requests += 1;
        if Some(self.requests) == self.limits.goaway_after {
            self.goaway_sent = true;
            let no_error = [0; 4];
            send(&self.outgoing, GOAWAY, 0, 0, &[stream.to_be_bytes(), no_error].concat());
        }
        let (counts, open) = (Arc::clone(&self.counts), Arc::clone(&self.open));
        let (outgoing, latency) = (self.outgoing.clone(), self.limits.latency);
        tokio::spawn(async move {
            tokio::time::sleep(latency).await;
            if open.lock().unwrap().remove(&stream) {
                counts.lock().unwrap().answered += 1;
                send(&outgoing, HEADERS, END_STREAM_AND_HEADERS, stream, OK);
            }
        });
    }
}

/// Queues a frame. An error means that the connection has ended, so it is ignored.
fn send(outgoing: &mpsc::UnboundedSender<Vec<u8>>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    let _ = outgoing.send(frame);
}
