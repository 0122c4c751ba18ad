//! A client of HTTP/2 frame by frame (RFC 9113), for what libraries do not let one do.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// A connection.
pub(crate) struct Raw {
    socket: TcpStream,
    /// What has come and makes no whole frame yet.
    received: Vec<u8>,
    next: u32,
}

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame, whole.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
        socket.write_all(&hello).await.unwrap();
        // What the server says: settings, and that it has seen ours.
        let mut raw = Self { socket, received: Vec::new(), next: 1 };
        while raw.read().await.unwrap().0 != SETTINGS {}
        raw.socket.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        raw
    }

    /// The frames of a whole call, whose operation is called `id`.
    pub(crate) fn call(&mut self, id: usize) -> (u32, Vec<u8>) {
        self.call_with(id, &[])
    }

    /// Likewise, with more headers, whatever is in them; a name and a value have at most 126 bytes.
    pub(crate) fn call_with(&mut self, id: usize, headers: &[(&str, &str)]) -> (u32, Vec<u8>) {
        let stream = self.next;
        self.next += 2;
        let message =
            [&[10, 44][..], format!("enterprises/LC01/devices/d1/operations/{id:05}").as_bytes()].concat();
        let body = [&[0, 0, 0, 0, 46][..], &message].concat();
        let frames =
            [frame(HEADERS, END_HEADERS, stream, &head(headers)), frame(DATA, END_STREAM, stream, &body)];
        (stream, frames.concat())
    }

    pub(crate) async fn send(&mut self, frames: &[u8]) {
        self.socket.write_all(frames).await.unwrap();
    }

    /// The next frame: its kind, and what it holds. `None` at the end. Safe to drop and call again.
    pub(crate) async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.received.split_first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = (head[3], payload.to_vec());
                    self.received.drain(..9 + length);
                    return Some(frame);
                }
            }
            if self.socket.read_buf(&mut self.received).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Sends what `next` makes until the connection takes no more; the reason that the server gave.
    pub(crate) async fn until_cut_off(mut self, mut next: impl FnMut(&mut Self) -> Vec<u8>) -> Option<u32> {
        soon("the end of the connection", async {
            let mut reason = None;
            let mut is_open = true;
            loop {
                if is_open {
                    let frames = next(&mut self);
                    is_open = self.socket.write_all(&frames).await.is_ok();
                }
                // What has come by now; after the last write, all that will come.
                while let Some(frame) = self.read_soon(is_open).await {
                    match frame {
                        Some((GOAWAY, payload)) => {
                            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                        }
                        Some(_) => {}
                        None => return reason,
                    }
                }
            }
        })
        .await
    }

    /// The next frame; `None` when there is none yet, which is given up at once if there is more to do.
    async fn read_soon(&mut self, is_busy: bool) -> Option<Option<(u8, Vec<u8>)>> {
        if !is_busy {
            return Some(self.read().await);
        }
        tokio::time::timeout(Duration::from_millis(1), self.read()).await.ok()
    }
}

/// The headers of a call, without Huffman codes and without an index (RFC 7541, section 6.2.2).
fn head(more: &[(&str, &str)]) -> Vec<u8> {
    let mut head = Vec::new();
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/google.longrunning.Operations/CancelOperation"),
        (":authority", "service"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in usual.iter().chain(more) {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.as_bytes());
        }
    }
    head
}
