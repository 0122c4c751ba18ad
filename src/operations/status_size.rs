//! Limits the size of an error on the wire. Many peers reset a stream whose trailers exceed 8 KiB. The caller would
//! then not get the error.

use std::cmp::Reverse;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::translate;

/// The maximum length of a message, in bytes of UTF-8 before percent-encoding.
const MAX_MESSAGE: usize = 1024;

/// The maximum size of all trailers, in bytes as HTTP/2 counts a header list (RFC 9113, section 6.5.2).
const MAX_TRAILERS: usize = 8192;

/// Reserved for `grpc-status`, for the `:status`, `content-type` and `date` of a trailers-only response (212
/// bytes in all), and for fields that `server` adds.
const RESERVED: usize = 512;

/// The bytes that HTTP/2 counts for a field beyond its name and value.
const FIELD_OVERHEAD: usize = 32;

/// The maximum length of the reason of an `ErrorInfo` that is cut. Its proto defines the limit.
const MAX_REASON: usize = 63;

/// The maximum length of the domain of an `ErrorInfo` that is cut. DNS defines the limit.
const MAX_DOMAIN: usize = 253;

/// The detail types by priority: types for the decisions of programs, types that describe the correction, and types
/// for people. Other types have the lowest priority.
const PRIORITIES: [&[&str]; 4] = [
    &["google.rpc.ErrorInfo"],
    &["google.rpc.RetryInfo"],
    &["google.rpc.BadRequest", "google.rpc.PreconditionFailure", "google.rpc.QuotaFailure"],
    &["google.rpc.ResourceInfo", "google.rpc.RequestInfo", "google.rpc.Help", "google.rpc.LocalizedMessage"],
];

/// Builds a status within the limits. A message over `MAX_MESSAGE` is cut between characters. Details that do not
/// fit are removed in the order of their priority. An `ErrorInfo` that is too large loses its largest metadata. The
/// `google.rpc.Status` in the details repeats the code and the message.
pub(super) fn limited(code: Code, message: &str, details: Vec<Any>) -> Status {
    let message = &message[..message.floor_char_boundary(MAX_MESSAGE)];
    let mut inner = pb::Status { code: code.into(), message: message.to_owned(), details: Vec::new() };
    let available = max_inner_size(message) - inner.encoded_len();
    inner.details = highest_priority(details, available);
    Status::with_details(code, message, inner.encode_to_vec().into())
}

/// The maximum size of the encoded `google.rpc.Status` with this message, in bytes before base64.
fn max_inner_size(message: &str) -> usize {
    let message = FIELD_OVERHEAD + "grpc-message".len() + percent_encoded_len(message);
    let details = FIELD_OVERHEAD + "grpc-status-details-bin".len();
    (MAX_TRAILERS - RESERVED - message - details) / 4 * 3
}

/// The length of a message in `grpc-message`. tonic escapes more characters than gRPC requires.
fn percent_encoded_len(message: &str) -> usize {
    let is_escaped = |byte: u8| !byte.is_ascii_graphic() || b"\"#%<>`?{}".contains(&byte);
    message.bytes().map(|byte| if is_escaped(byte) { 3 } else { 1 }).sum()
}

/// The details of the highest priority that fit in `available` bytes, in their original order.
fn highest_priority(mut details: Vec<Any>, mut available: usize) -> Vec<Any> {
    if details.iter().map(size).sum::<usize>() <= available {
        return details;
    }
    // A RetryInfo is small and controls clients. Therefore the ErrorInfo is cut until both fit.
    let retry_info = details.iter().find(|any| rank(any) == 1).map_or(0, size);
    if let Some(error_info) = details.iter_mut().find(|any| rank(any) == 0) {
        cut_error_info(error_info, available.saturating_sub(retry_info));
    }

    let mut by_priority: Vec<usize> = (0..details.len()).collect();
    by_priority.sort_by_key(|&index| rank(&details[index]));
    let mut kept = vec![false; details.len()];
    for index in by_priority {
        let size = size(&details[index]);
        if size <= available {
            available -= size;
            kept[index] = true;
        }
    }
    let mut kept = kept.into_iter();
    details.retain(|_| kept.next().unwrap_or_default());
    details
}

/// The index in [`PRIORITIES`].
fn rank(any: &Any) -> usize {
    let is_in = |names: &&[&str]| names.iter().any(|name| translate::is_type(any, name));
    PRIORITIES.iter().position(is_in).unwrap_or(PRIORITIES.len())
}

/// The size of a detail within `google.rpc.Status`, in bytes.
fn size(any: &Any) -> usize {
    prost::encoding::message::encoded_len(3, any)
}

fn cut_error_info(any: &mut Any, max_size: usize) {
    if size(any) <= max_size {
        return;
    }
    // A malformed ErrorInfo is removed later. This crate and prost-reflect encode none.
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
        if size(any) <= max_size {
            return;
        }
    }
    info.reason.truncate(info.reason.floor_char_boundary(MAX_REASON));
    info.domain.truncate(info.domain.floor_char_boundary(MAX_DOMAIN));
    any.value = info.encode_to_vec();
}

#[cfg(test)]
mod tests;
