//! The request message of a call, collected before anything else is done with it.

use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// The bytes before a message: a flag for compression, and the length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// A request message that was not collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageError {
    /// The deadline passed before its end.
    Late,
    /// It is longer than `limit` bytes.
    TooLong { limit: usize },
    /// The caller disconnected before its end.
    Incomplete,
}

/// Collects the body of a unary call, prefix included. Without this bound on time, a caller that sends no message, or
/// one byte of it, would hold a permit for as long as it likes.
///
/// # Errors
///
/// See [`MessageError`]. A message whose prefix announces more than `limit` bytes is refused before they arrive.
pub(super) async fn collect(
    body: impl Body<Data = Bytes>,
    deadline: Instant,
    limit: usize,
) -> Result<Bytes, MessageError> {
    let mut body = pin!(body);
    let mut message = Bytes::new();
    // Most messages arrive whole in one frame, and take no copy.
    let mut joined = BytesMut::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(MessageError::Incomplete),
            Ok(None) if joined.is_empty() => return Ok(message),
            Ok(None) => return Ok(joined.freeze()),
            Err(_) => return Err(MessageError::Late),
        };
        // A frame of trailers has no data.
        let Ok(data) = frame.into_data() else { continue };
        if message.is_empty() && joined.is_empty() {
            message = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut message));
            joined.extend_from_slice(&data);
        }
        let collected = if joined.is_empty() { &message[..] } else { &joined[..] };
        if collected.len() > limit + PREFIX || announced(collected).is_some_and(|length| length > limit) {
            return Err(MessageError::TooLong { limit });
        }
    }
}

/// The message without its prefix. `None` when it is shorter than its prefix says.
pub(super) fn payload(message: &Bytes) -> Option<Bytes> {
    let end = PREFIX + announced(message)?;
    (message.len() >= end).then(|| message.slice(PREFIX..end))
}

/// The length in the prefix, once that has arrived.
fn announced(mut collected: &[u8]) -> Option<usize> {
    if collected.len() < PREFIX {
        return None;
    }
    collected.advance(1);
    usize::try_from(collected.get_u32()).ok()
}
