//! Callers who reset their calls: those who only do that are cut off, those who lose patience are not.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    NAME,
    support::{
        reply::Reply,
        service::{Service, Setup},
        soon,
        upstream::Upstream,
    },
};

/// A client of raw frames (RFC 9113).
struct Raw {
    socket: TcpStream,
    next: u32,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl Raw {
    async fn open(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
        socket.write_all(&hello).await.unwrap();
        // What the server says: settings, and that it has seen ours.
        let mut raw = Self { socket, next: 1 };
        while raw.read().await.unwrap().0 != SETTINGS {}
        raw.socket.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        raw
    }

    /// The frames of a whole call, whose operation is called `id`.
    fn call(&mut self, id: usize) -> (u32, Vec<u8>) {
        let stream = self.next;
        self.next += 2;
        let message =
            [&[10, 44][..], format!("enterprises/LC01/devices/d1/operations/{id:05}").as_bytes()].concat();
        let body = [&[0, 0, 0, 0, 46][..], &message].concat();
        let frames = [frame(HEADERS, END_HEADERS, stream, &head()), frame(DATA, END_STREAM, stream, &body)];
        (stream, frames.concat())
    }

    /// The next frame: its kind, and what it holds. `None` at the end.
    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.socket.read_exact(&mut payload).await.ok()?;
        Some((head[3], payload))
    }

    /// Sends what `next` makes until the connection takes no more; the reason that the server gave.
    async fn until_cut_off(mut self, mut next: impl FnMut(&mut Self) -> Vec<u8>) -> Option<u32> {
        let mut reason = None;
        soon("the end of the connection", async {
            loop {
                let frames = next(&mut self);
                if self.socket.write_all(&frames).await.is_err() {
                    break;
                }
                // Without waiting: what has come by now.
                while let Ok(frame) =
                    tokio::time::timeout(std::time::Duration::from_millis(1), self.read()).await
                {
                    match frame {
                        Some((GOAWAY, payload)) => {
                            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                        }
                        Some(_) => {}
                        None => return,
                    }
                }
            }
        })
        .await;
        reason
    }
}

/// The headers of a call, without Huffman codes and without an index (RFC 7541, section 6.2.2).
fn head() -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/google.longrunning.Operations/CancelOperation"),
        (":authority", "service"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ] {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.as_bytes());
        }
    }
    head
}

async fn start(upstream: &Upstream) -> Service {
    let setup = Setup::of(upstream).set("COUNTERMAND_MAX_RESETS_PER_WINDOW", "50");
    setup.set("COUNTERMAND_MAX_PENDING_RESETS", "20").start().await
}

/// Another caller, who is none the worse.
async fn is_served(service: &Service) {
    assert_eq!(service.wire().await.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_raw_call_is_answered() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = start(&upstream).await;
    let mut raw = Raw::open(service.address).await;
    let (_, frames) = raw.call(17);
    raw.socket.write_all(&frames).await.unwrap();
    soon("the answer", async { while raw.read().await.unwrap().0 != HEADERS {} }).await;
    upstream.has_seen(1).await;
}

#[tokio::test]
async fn calls_that_are_reset_at_once_cut_the_caller_off() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = start(&upstream).await;
    // All at once, so that they are reset before they are looked at (CVE-2023-44487).
    let raw = Raw::open(service.address).await;
    let reason = raw.until_cut_off(|raw| {
        let burst = (0..100).map(|id| {
            let (stream, frames) = raw.call(id);
            [frames, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        });
        burst.collect::<Vec<_>>().concat()
    });
    assert_eq!(reason.await, Some(ENHANCE_YOUR_CALM));
    is_served(&service).await;
}

#[tokio::test]
async fn calls_that_are_reset_soon_cut_the_caller_off_too() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    // Each is looked at before its reset comes, with the next one.
    let raw = Raw::open(service.address).await;
    let mut last = None;
    let mut begun = 0;
    raw.until_cut_off(|raw| {
        begun += 1;
        assert!(begun < 1000, "it goes on for ever");
        let (stream, frames) = raw.call(begun);
        let reset = last.replace(stream).map(|last| frame(RST_STREAM, 0, last, &CANCEL.to_be_bytes()));
        [reset.unwrap_or_default(), frames].concat()
    })
    .await;
    assert!(begun > 50, "{begun}: it is cut off within its limit");
    upstream.always_answers(Reply::ok());
    is_served(&service).await;
}

#[tokio::test]
async fn calls_that_the_server_is_made_to_reset_cut_the_caller_off() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    // A window update of nothing is an error of the stream (RFC 9113, section 6.9; CVE-2025-8671).
    let raw = Raw::open(service.address).await;
    let mut begun = 0;
    raw.until_cut_off(|raw| {
        begun += 1;
        assert!(begun < 1000, "it goes on for ever");
        let (stream, frames) = raw.call(begun);
        [frames, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    })
    .await;
    upstream.always_answers(Reply::ok());
    is_served(&service).await;
}

#[tokio::test]
async fn a_proxy_whose_callers_give_up_together_after_a_while_is_not_cut_off() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    let wire = service.wire().await;
    let mut calls = Vec::new();
    for id in 0..100 {
        calls.push(wire.start(&format!("{NAME}{id}"), &[]).await);
    }
    upstream.has_seen(100).await;
    // What is reset within a second of its begin counts.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    drop(calls);
    upstream.always_answers(Reply::ok());
    assert_eq!(wire.cancel(&format!("{NAME}999"), &[]).await.code(), Code::Ok);
}
