//! A client that writes HTTP/2 frames (RFC 9113), because libraries do not send invalid or abusive sequences.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::with_timeout;

/// An HTTP/2 connection.
pub(crate) struct RawClient<S = TcpStream> {
    socket: S,
    /// Received bytes that are not a whole frame yet.
    received: Vec<u8>,
    next_stream: u32,
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

/// An encoded frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl RawClient {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    pub(crate) async fn over(mut socket: S) -> Self {
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
        socket.write_all(&preface).await.unwrap();
        let mut raw = Self { socket, received: Vec::new(), next_stream: 1 };
        while raw.read().await.unwrap().0 != SETTINGS {}
        raw.socket.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        raw
    }

    /// The stream ID and the frames of a cancel of the operation `id`.
    pub(crate) fn call_frames(&mut self, id: usize) -> (u32, Vec<u8>) {
        self.call_frames_with(id, &[])
    }

    /// Likewise, with more headers. The values may be invalid. Names and values have at most 126 bytes.
    pub(crate) fn call_frames_with(&mut self, id: usize, headers: &[(&str, &str)]) -> (u32, Vec<u8>) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let message =
            [&[10, 44][..], format!("enterprises/LC01/devices/d1/operations/{id:05}").as_bytes()].concat();
        let body = [&[0, 0, 0, 0, 46][..], &message].concat();
        let frames = [
            frame(HEADERS, END_HEADERS, stream, &header_block(headers)),
            frame(DATA, END_STREAM, stream, &body),
        ];
        (stream, frames.concat())
    }

    pub(crate) async fn send(&mut self, frames: &[u8]) {
        self.socket.write_all(frames).await.unwrap();
    }

    /// The type and payload of the next frame, or `None` at the end. Cancel safe.
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

    /// Sends the frames from `next_frames` until the server closes the connection. Returns the error code of GOAWAY.
    pub(crate) async fn send_until_closed(
        mut self,
        mut next_frames: impl FnMut(&mut Self) -> Vec<u8>,
    ) -> Option<u32> {
        with_timeout("the end of the connection", async {
            let mut error_code = None;
            let mut is_open = true;
            loop {
                if is_open {
                    let frames = next_frames(&mut self);
                    is_open = self.socket.write_all(&frames).await.is_ok();
                }
                // After a failed write, this reads to the end of the connection.
                while let Some(frame) = self.read_available(is_open).await {
                    match frame {
                        Some((GOAWAY, payload)) => {
                            error_code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                        }
                        Some(_) => {}
                        None => return error_code,
                    }
                }
            }
        })
        .await
    }

    /// The next frame, or `None` if it does not arrive at once. With `is_open` unset, waits for the frame.
    async fn read_available(&mut self, is_open: bool) -> Option<Option<(u8, Vec<u8>)>> {
        if !is_open {
            return Some(self.read().await);
        }
        tokio::time::timeout(Duration::from_millis(1), self.read()).await.ok()
    }
}

/// The header block of a call, as literals without indexing and without Huffman codes (RFC 7541, section 6.2.2).
fn header_block(more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let required = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/google.longrunning.Operations/CancelOperation"),
        (":authority", "service"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in required.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}
