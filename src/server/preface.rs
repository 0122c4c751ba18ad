//! The HTTP/2 connection preface, the first bytes of a connection.
//!
//! This module reads the preface before hyper gets the connection, because hyper waits for it without a timeout.

use std::io;

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

#[cfg(test)]
mod tests;
