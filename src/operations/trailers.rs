//! What an error may weigh on the wire. Trailers over a peer's limit, 8 KiB for many, kill the stream, and
//! with it the very answer that they carry.

use std::cmp::Reverse;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::details;

/// The longest message, in bytes of UTF-8 before percent-encoding.
const MAX_MESSAGE: usize = 1024;

/// What all trailers together stay under, in bytes as HTTP/2 counts a header list (RFC 9113, 6.5.2).
const MAX_TRAILERS: usize = 8192;

/// Kept free for what others add: `grpc-status`, and where an answer is nothing but trailers also
/// `:status`, `content-type` and `date` (212 in all), and what layers may set.
const OTHERS: usize = 512;

/// What HTTP/2 counts for a field beyond its name and value.
const FIELD: usize = 32;

/// The longest reason and domain of an `ErrorInfo` that had to be cut to fit: by its proto the most that a
/// reason has, and the most that DNS allows.
const MAX_REASON: usize = 63;
const MAX_DOMAIN: usize = 253;

/// A status within the limits. A message over `MAX_MESSAGE` is cut between characters; details that do
/// not fit are left out, the least useful first; an `ErrorInfo` too big by itself loses its largest
/// metadata. `google.rpc.Status` within says the same code and message as the status around it.
pub(super) fn status(code: Code, message: &str, details: Vec<Any>) -> Status {
    let message = &message[..message.floor_char_boundary(MAX_MESSAGE)];
    let mut inner = pb::Status { code: code.into(), message: message.to_owned(), details: Vec::new() };
    let room = room_for_details(message) - inner.encoded_len();
    inner.details = fitting(details, room);
    Status::with_details(code, message, inner.encode_to_vec().into())
}

/// Bytes that the encoded `google.rpc.Status` may have beside this message, before base64.
fn room_for_details(message: &str) -> usize {
    let message = FIELD + "grpc-message".len() + percent_encoded(message);
    let field = FIELD + "grpc-status-details-bin".len();
    (MAX_TRAILERS - OTHERS - message - field) / 4 * 3
}

/// The length of a message in `grpc-message`, which tonic encodes more strictly than gRPC asks for.
fn percent_encoded(message: &str) -> usize {
    let encoded = |byte: u8| !byte.is_ascii_graphic() || b"\"#%<>`?{}".contains(&byte);
    message.bytes().map(|byte| if encoded(byte) { 3 } else { 1 }).sum()
}

fn fitting(mut details: Vec<Any>, mut room: usize) -> Vec<Any> {
    if details.iter().map(cost).sum::<usize>() <= room {
        return details;
    }
    // A RetryInfo is small and steers what clients do: the ErrorInfo, which may be cut, leaves it room.
    let retry = details.iter().find(|any| rank(any) == 1).map_or(0, cost);
    if let Some(info) = details.iter_mut().find(|any| rank(any) == 0) {
        cut_error_info(info, room.saturating_sub(retry));
    }

    let mut by_use: Vec<usize> = (0..details.len()).collect();
    by_use.sort_by_key(|&index| rank(&details[index]));
    let mut kept = vec![false; details.len()];
    for index in by_use {
        let cost = cost(&details[index]);
        if cost <= room {
            room -= cost;
            kept[index] = true;
        }
    }
    let mut kept = kept.into_iter();
    details.retain(|_| kept.next().unwrap_or_default());
    details
}

/// How useful a detail is, best first: what programs decide by, what tells them what to change, what
/// people read, and the rest.
fn rank(any: &Any) -> usize {
    const BY_USE: [&[&str]; 4] = [
        &["google.rpc.ErrorInfo"],
        &["google.rpc.RetryInfo"],
        &["google.rpc.BadRequest", "google.rpc.PreconditionFailure", "google.rpc.QuotaFailure"],
        &[
            "google.rpc.ResourceInfo",
            "google.rpc.RequestInfo",
            "google.rpc.Help",
            "google.rpc.LocalizedMessage",
        ],
    ];
    BY_USE.iter().position(|names| names.iter().any(|name| details::is(any, name))).unwrap_or(BY_USE.len())
}

/// The bytes that a detail takes in `google.rpc.Status`.
fn cost(any: &Any) -> usize {
    prost::encoding::message::encoded_len(3, any)
}

fn cut_error_info(any: &mut Any, room: usize) {
    if cost(any) <= room {
        return;
    }
    // What we packed or prost-reflect wrote decodes; what would not is left to be dropped whole.
    let Ok(mut info) = pb::ErrorInfo::decode(&any.value[..]) else {
        return;
    };
    let mut largest_first: Vec<String> = info.metadata.keys().cloned().collect();
    largest_first.sort_by_key(|key| {
        let size = key.len() + info.metadata[key].len();
        (Reverse(size), key.clone())
    });
    for key in largest_first {
        info.metadata.remove(&key);
        any.value = info.encode_to_vec();
        if cost(any) <= room {
            return;
        }
    }
    info.reason.truncate(info.reason.floor_char_boundary(MAX_REASON));
    info.domain.truncate(info.domain.floor_char_boundary(MAX_DOMAIN));
    any.value = info.encode_to_vec();
}

#[cfg(test)]
mod tests;
