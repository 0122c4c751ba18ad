//! What an error's details are expected to be, to the byte.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

/// Who an `ErrorInfo` says an error is from.
pub(crate) const OURS: &str = "countermand";
pub(crate) const GOOGLES: &str = "androidmanagement.googleapis.com";

pub(crate) fn pack(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

pub(crate) fn info(domain: &str, reason: &str) -> Any {
    let (reason, domain) = (reason.to_owned(), domain.to_owned());
    pack("google.rpc.ErrorInfo", &pb::ErrorInfo { reason, domain, metadata: Default::default() })
}

pub(crate) fn retry(seconds: i64) -> Any {
    let retry_delay = Some(prost_types::Duration { seconds, nanos: 0 });
    pack("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay })
}

/// Checks all that a caller sees of an error: code, message, and each byte of the details.
#[track_caller]
pub(crate) fn assert_status(status: &Status, code: Code, message: &str, details: Vec<Any>) {
    assert_eq!((status.code(), status.message()), (code, message));
    let want = pb::Status { code: code.into(), message: message.to_owned(), details };
    assert_eq!(decode(status), want);
    assert_eq!(status.details(), want.encode_to_vec());
}

/// Checks an error of which nothing but the code, and one `ErrorInfo` of ours, is to be told.
#[track_caller]
pub(crate) fn assert_ours(status: &Status, code: Code, reason: &str) {
    assert_status(status, code, status.message(), vec![info(OURS, reason)]);
    assert!(!status.message().is_empty());
}

/// Checks an error of ours that says when to come back: in more than no time, and at most in `most`
/// seconds.
#[track_caller]
pub(crate) fn assert_ours_with_retry(status: &Status, code: Code, reason: &str, most: i64) {
    assert_eq!(status.code(), code, "{status:?}");
    let details = decode(status).details;
    assert_eq!(details[0], info(OURS, reason));
    let delay = pb::RetryInfo::decode(&details[1].value[..]).unwrap().retry_delay.unwrap();
    assert_eq!(details[1].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert!((0..=most).contains(&delay.seconds) && (delay.seconds, delay.nanos) > (0, 0), "{delay:?}");
    assert_eq!(details.len(), 2);
}

pub(crate) fn decode(status: &Status) -> pb::Status {
    pb::Status::decode(status.details()).unwrap()
}
