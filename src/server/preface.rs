//! The HTTP/2 connection preface, the first bytes of a connection.
//!
//! This module reads the preface before hyper gets the connection, because hyper waits for it without a timeout.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The connection preface (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS record with a ClientHello (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Reads exactly the preface from `stream`.
///
/// # Errors
///
/// The peer sends other bytes, or closes the connection.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut read = 0;
    let mut preface = [0; PREFACE.len()];
    while read < PREFACE.len() {
        let more = stream.read(&mut preface[read..]).await?;
        if more == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection before the HTTP/2 preface",
            ));
        }
        read += more;
        // Fails at the first other byte, because a client of another protocol may wait for a response.
        if preface[..read] != PREFACE[..read] {
            let problem = match preface[0] {
                TLS_HANDSHAKE => "the peer speaks TLS on a plaintext listener",
                _ => "the peer does not speak HTTP/2",
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
    }
    Ok(())
}

/// A connection whose preface was read. It returns the preface again to hyper.
pub(super) struct AfterPreface<T> {
    unread: &'static [u8],
    inner: T,
}

impl<T> AfterPreface<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { unread: PREFACE, inner }
    }
}

impl<T: rt::Read + Unpin> rt::Read for AfterPreface<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let (next, rest) = self.unread.split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(next);
        self.unread = rest;
        Poll::Ready(Ok(()))
    }
}

impl<T: rt::Write + Unpin> rt::Write for AfterPreface<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests;
