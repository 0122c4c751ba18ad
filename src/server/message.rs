//! Collects the request message of a call.

use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// The length of a message's prefix: a compression flag and the length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// A request message could not be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageError {
    /// The deadline passed before the end of the message.
    DeadlinePassed,
    /// The message is longer than `limit` bytes.
    TooLong { limit: usize },
    /// The caller disconnected before the end of the message.
    Incomplete,
}

/// Collects the body of a unary call, including the prefix. Without the deadline, a caller that sends no complete
/// message could hold a permit forever.
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
    // Most messages arrive in one frame and need no copy.
    let mut joined = BytesMut::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(MessageError::Incomplete),
            Ok(None) if joined.is_empty() => return Ok(message),
            Ok(None) => return Ok(joined.freeze()),
            Err(_) => return Err(MessageError::DeadlinePassed),
        };
        // A trailers frame has no data.
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

/// The message without its prefix. `None` when it is shorter than the length in its prefix.
pub(super) fn payload(message: &Bytes) -> Option<Bytes> {
    let end = PREFIX + announced(message)?;
    (message.len() >= end).then(|| message.slice(PREFIX..end))
}

/// The length in the prefix; `None` before the prefix has arrived.
fn announced(mut collected: &[u8]) -> Option<usize> {
    if collected.len() < PREFIX {
        return None;
    }
    collected.advance(1);
    usize::try_from(collected.get_u32()).ok()
}
