//! The first bytes of a connection: those by which a client says that it speaks HTTP/2 and knows that we do.
//!
//! They are read before hyper gets the connection, since hyper waits for them for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a record of TLS with a ClientHello begins with (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Reads the preface from `stream`. Nothing beyond it is read.
///
/// # Errors
///
/// The peer says something else, or nothing more.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut read = 0;
    let mut preface = [0; PREFACE.len()];
    while read < PREFACE.len() {
        let more = stream.read(&mut preface[read..]).await?;
        if more == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed it before it spoke HTTP/2",
            ));
        }
        read += more;
        // At the first wrong byte: whoever speaks something else may wait for an answer before there are more.
        if preface[..read] != PREFACE[..read] {
            let what = match preface[0] {
                TLS_HANDSHAKE => "the peer speaks TLS, which is not served here",
                _ => "the peer does not speak HTTP/2",
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }
    Ok(())
}

/// A connection whose preface was read: gives it to hyper as if it had not been.
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
        let (now, later) = self.unread.split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.unread = later;
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
