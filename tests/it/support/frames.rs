//! An upstream that speaks HTTP/2 over TLS frame by frame (RFC 9113), to do what servers in front of
//! Google do and libraries hide: refuse streams, and go away in the middle of a burst. Every request that
//! it takes is answered 200 without a body. Dropped at the end of a test, it fails it when a client broke
//! the rules that it was told.

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

/// Frame types and flags.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 0x5;

/// SETTINGS_MAX_CONCURRENT_STREAMS and REFUSED_STREAM.
const MAX_STREAMS: u16 = 3;
const REFUSED_STREAM: u32 = 7;

/// `:status: 200` of HPACK's static table.
const OK: &[u8] = &[0x88];

/// How the upstream behaves.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// The streams that a connection may have open, as its SETTINGS say.
    pub(crate) announced: u32,
    /// The streams that it takes at once, whatever it announced; it refuses others.
    pub(crate) taken: usize,
    /// A connection goes away after this many requests: those that crossed its word on the way are lost.
    pub(crate) goes_away_after: Option<usize>,
    /// How long each answer takes.
    pub(crate) latency: Duration,
}

/// What was seen, over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: usize,
    pub(crate) answered: usize,
    pub(crate) refused: usize,
    pub(crate) ignored: usize,
    /// The most streams that one connection had open at once.
    pub(crate) most_open: usize,
    /// Streams beyond what was announced, by a client that knew.
    pub(crate) beyond: usize,
}

/// A running upstream.
pub(crate) struct Http2Upstream {
    pub(crate) url: String,
    tally: Arc<Mutex<Tally>>,
    serving: JoinHandle<()>,
}

impl Http2Upstream {
    pub(crate) async fn start(authority: &Authority, rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = authority.acceptor(&[H2]);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let counted = Arc::clone(&tally);
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                counted.lock().unwrap().connections += 1;
                let (acceptor, tally) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let (reader, mut writer) = tokio::io::split(socket);
                    let (frames, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
                    tokio::spawn(Connection::new(rules, tally, frames).serve(reader));
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
        Self { url, tally, serving }
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap()
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            assert_eq!(self.tally().beyond, 0, "streams beyond what was announced");
        }
    }
}

/// One connection; it ends when its reader does and the last answer is on its way.
struct Connection {
    rules: Rules,
    tally: Arc<Mutex<Tally>>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    open: Arc<Mutex<HashSet<u32>>>,
    requests: usize,
    gone: bool,
    client_knows: bool,
}

impl Connection {
    fn new(rules: Rules, tally: Arc<Mutex<Tally>>, outgoing: mpsc::UnboundedSender<Vec<u8>>) -> Self {
        let open = Arc::default();
        Self { rules, tally, outgoing, open, requests: 0, gone: false, client_knows: false }
    }

    async fn serve(mut self, mut reader: impl AsyncRead + Unpin) {
        let mut preface = [0; PREFACE.len()];
        if reader.read_exact(&mut preface).await.is_err() || preface != *PREFACE {
            return;
        }
        let mut limit = MAX_STREAMS.to_be_bytes().to_vec();
        limit.extend(self.rules.announced.to_be_bytes());
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
                (SETTINGS, ACK) => self.client_knows = true,
                (SETTINGS, _) => send(&self.outgoing, SETTINGS, ACK, 0, &[]),
                (PING, 0) => send(&self.outgoing, PING, ACK, 0, &payload),
                (RST_STREAM, _) => drop(self.open.lock().unwrap().remove(&stream)),
                (HEADERS, _) => self.request(stream),
                _ => {}
            }
        }
    }

    fn request(&mut self, stream: u32) {
        let mut tally = self.tally.lock().unwrap();
        if self.gone {
            tally.ignored += 1;
            return;
        }
        let mut open = self.open.lock().unwrap();
        if self.client_knows && open.len() >= self.rules.announced as usize {
            tally.beyond += 1;
        }
        if open.len() >= self.rules.taken {
            tally.refused += 1;
            send(&self.outgoing, RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes());
            return;
        }
        open.insert(stream);
        tally.most_open = tally.most_open.max(open.len());
        self.requests += 1;
        if Some(self.requests) == self.rules.goes_away_after {
            self.gone = true;
            let no_error = [0; 4];
            send(&self.outgoing, GOAWAY, 0, 0, &[stream.to_be_bytes(), no_error].concat());
        }
        let (tally, open) = (Arc::clone(&self.tally), Arc::clone(&self.open));
        let (outgoing, latency) = (self.outgoing.clone(), self.rules.latency);
        tokio::spawn(async move {
            tokio::time::sleep(latency).await;
            if open.lock().unwrap().remove(&stream) {
                tally.lock().unwrap().answered += 1;
                send(&outgoing, HEADERS, END_STREAM_AND_HEADERS, stream, OK);
            }
        });
    }
}

/// Sends a frame. When the writer is gone, so is the connection, and nobody waits for it.
fn send(outgoing: &mpsc::UnboundedSender<Vec<u8>>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    let _ = outgoing.send(frame);
}
