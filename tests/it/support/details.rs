//! Assertions on every byte of an error's details.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

/// The domains of an `ErrorInfo`.
pub(crate) const OUR_DOMAIN: &str = "countermand";
pub(crate) const GOOGLE_DOMAIN: &str = "androidmanagement.googleapis.com";

pub(crate) fn to_any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

pub(crate) fn error_info(domain: &str, reason: &str) -> Any {
    let (reason, domain) = (reason.to_owned(), domain.to_owned());
    to_any("google.rpc.ErrorInfo", &pb::ErrorInfo { reason, domain, metadata: Default::default() })
}

pub(crate) fn retry_info(seconds: i64) -> Any {
    let retry_delay = Some(prost_types::Duration { seconds, nanos: 0 });
    to_any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay })
}

/// Asserts the code, the message and every byte of the details.
#[track_caller]
pub(crate) fn assert_status(status: &Status, code: Code, message: &str, details: Vec<Any>) {
    assert_eq!((status.code(), status.message()), (code, message));
    let want = pb::Status { code: code.into(), message: message.to_owned(), details };
    assert_eq!(decode(status), want);
    assert_eq!(status.details(), want.encode_to_vec());
}

/// Asserts the code, a message, and one `ErrorInfo` of our domain as the only detail.
#[track_caller]
pub(crate) fn assert_our_error(status: &Status, code: Code, reason: &str) {
    assert_status(status, code, status.message(), vec![error_info(OUR_DOMAIN, reason)]);
    assert!(!status.message().is_empty());
}

/// Asserts the code, one `ErrorInfo` of our domain, and a `RetryInfo` whose delay is positive and below
/// `max_seconds` + 1.
#[track_caller]
pub(crate) fn assert_our_error_with_retry(status: &Status, code: Code, reason: &str, max_seconds: i64) {
    assert_eq!(status.code(), code, "{status:?}");
    let details = decode(status).details;
    assert_eq!(details[0], error_info(OUR_DOMAIN, reason));
    let delay = pb::RetryInfo::decode(&details[1].value[..]).unwrap().retry_delay.unwrap();
    assert_eq!(details[1].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert!((0..=max_seconds).contains(&delay.seconds) && (delay.seconds, delay.nanos) > (0, 0), "{delay:?}");
    assert_eq!(details.len(), 2);
}

pub(crate) fn decode(status: &Status) -> pb::Status {
    pb::Status::decode(status.details()).unwrap()
}
