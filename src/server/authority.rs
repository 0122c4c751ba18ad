//! Clients whose `:authority` is invalid.
//!
//! The crate `http` accepts no path of a unix socket as an authority, even if the path is percent-encoded. h2 then
//! resets the stream before a service sees the call. gRPC's C core and grpc-java send the path, so on unix sockets an
//! invalid authority is replaced. Countermand does not use the authority. On TCP an invalid authority is logged.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::preface::PREFACE;
use crate::log_throttle::LogThrottle;

mod filter;
mod frames;
mod hpack;
mod huffman;

pub use filter::{AuthorityFilter, OnInvalid};

/// The number of bytes that one read adds to an incomplete value.
const READ_BYTES: usize = 512;

/// The maximum number of characters of an authority in the log.
const MAX_LOGGED: usize = 100;

/// A frame or a header block is malformed, or is not read further.
#[derive(Debug)]
struct Malformed;

/// A connection whose client may send an invalid authority. The preface must have been read. It is returned again to
/// hyper.
pub(super) struct AuthorityReader<'a, T> {
    inner: T,
    filter: AuthorityFilter,
    /// Bytes that were read and not passed on.
    held: Vec<u8>,
    /// The number of bytes in `held` that can be passed on.
    released: usize,
    /// The limit of the log line, if invalid authorities are logged.
    log: Option<&'a LogThrottle>,
}

impl<'a, T> AuthorityReader<'a, T> {
    /// Replaces invalid authorities.
    pub(super) fn replacing(inner: T) -> Self {
        Self::new(inner, OnInvalid::Replace, None)
    }

    /// Logs invalid authorities, limited by `log`.
    pub(super) fn logging(inner: T, log: &'a LogThrottle) -> Self {
        Self::new(inner, OnInvalid::Report, Some(log))
    }

    fn new(inner: T, on_invalid: OnInvalid, log: Option<&'a LogThrottle>) -> Self {
        let filter = AuthorityFilter::new(on_invalid);
        Self { inner, filter, held: PREFACE.to_vec(), released: PREFACE.len(), log }
    }
}

impl<T: AsyncRead + Unpin> AuthorityReader<'_, T> {
    /// Reads into `buffer`. Bytes that end in an incomplete value go to `held`.
    fn poll_inner(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &mut buffer.filled_mut()[before..];
        let passed = self.filter.process(read, 0, |authority| log_invalid(self.log, authority));
        self.held.extend_from_slice(&read[passed..]);
        buffer.set_filled(before + passed);
        Poll::Ready(Ok(()))
    }

    /// Reads more bytes after those that are held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
        let from = self.held.len();
        self.held.extend_from_slice(buffer.filled());
        self.released = if self.held.len() == from {
            // The client ends inside a value.
            from
        } else {
            self.filter.process(&mut self.held, from, |authority| log_invalid(self.log, authority))
        };
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AuthorityReader<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let before = buffer.filled().len();
            ready!(self.poll_inner(cx, buffer))?;
            // Without new bytes, the reader would report the end of the connection.
            if buffer.filled().len() > before || self.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        while self.released == 0 {
            ready!(self.poll_held(cx))?;
        }
        let len = self.released.min(buffer.remaining());
        buffer.put_slice(&self.held[..len]);
        self.held.drain(..len);
        self.released -= len;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AuthorityReader<'_, T> {
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

fn log_invalid(log: Option<&LogThrottle>, authority: &[u8]) {
    if let Some(suppressed) = log.and_then(LogThrottle::permit) {
        tracing::warn!(
            authority = logged(authority),
            suppressed,
            "reset a call whose :authority is invalid: set grpc.default_authority in the client, or authority in \
             Envoy's grpc_health_check"
        );
    }
}

/// The authority as the log has it: escaped, bounded, and without userinfo, which may be a secret.
fn logged(authority: &[u8]) -> String {
    let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    let escaped = host[..host.len().min(MAX_LOGGED)].escape_ascii();
    if host.len() > MAX_LOGGED { format!("{escaped}...") } else { escaped.to_string() }
}

#[cfg(test)]
mod tests;
