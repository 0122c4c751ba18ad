//! From every way in which a call can fail to the status that its caller gets. The text for callers holds
//! no cause, no address and nothing of an answer that is not Google's JSON.

use std::time::Duration;

use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{code, details, trailers};
use crate::amapi::error::{Answer, Error};

mod own;

use own::ours;
pub use own::{
    audit_unavailable, deadline_exceeded, denied, internal, invalid_field, invalid_forwarded_identity,
    invalid_name, invalid_timeout, invalid_token, keys_unavailable, not_grpc, not_supported, overloaded,
    refused_by_the_library, shutting_down, too_long,
};

/// The `domain` of every error that is our own.
pub const OUR_DOMAIN: &str = "countermand";

/// The `domain` of an error that Google answered with.
pub const GOOGLE_DOMAIN: &str = "androidmanagement.googleapis.com";

/// The most seconds that `google.protobuf.Duration` holds.
const MAX_SECONDS: u64 = 315_576_000_000;

/// The status of a call to the Android Management API that did not succeed. Never OK.
#[must_use]
pub fn from_upstream(error: &Error) -> Status {
    match error {
        Error::NoCredential => ours(
            Code::FailedPrecondition,
            "NO_CREDENTIAL_FOR_ENTERPRISE",
            "the proxy has no credential for this enterprise",
            [],
        ),
        Error::Answered(answer) if answer.rejects_credential() => credential_rejected(),
        Error::Answered(answer) => answered(answer),
        Error::CredentialRejected(_) => credential_rejected(),
        Error::CredentialUnavailable { retry_after } => ours(
            Code::Unavailable,
            "CREDENTIAL_UNAVAILABLE",
            "the proxy has no valid token for the Android Management API at the moment",
            [retry_info(*retry_after)],
        ),
        Error::Malformed { what, http_status } => malformed(&format!(
            "the answer of the Android Management API, HTTP {http_status}, is not one of its own: {what}"
        )),
        Error::NotHttp { cause: _ } => {
            malformed("what answers for the Android Management API does not speak HTTP")
        }
        Error::Unreachable { cause: _ } => ours(
            Code::Unavailable,
            "UPSTREAM_UNREACHABLE",
            "the Android Management API gave no whole answer",
            [],
        ),
        Error::DeadlineExceeded { while_doing } => deadline_exceeded(while_doing),
        Error::Lost => internal(),
    }
}

/// The name of a code as `google.rpc.Code` and Google's JSON spell it: `NOT_FOUND`.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    code::name(code)
}

/// Nothing of Google's answer goes on: to a caller, UNAUTHENTICATED and its details would speak of the
/// caller's own credential.
fn credential_rejected() -> Status {
    ours(
        Code::Internal,
        "UPSTREAM_CREDENTIAL_REJECTED",
        "the Android Management API rejected the proxy's credential",
        [],
    )
}

fn malformed(message: &str) -> Status {
    ours(Code::Internal, "UPSTREAM_MALFORMED", message, [])
}

fn answered(answer: &Answer) -> Status {
    let code = code::of(answer);
    let google = answer.google.as_ref();
    let mut details = google.map_or_else(Vec::new, |google| details::from_json(&google.details));

    keep_googles_error_info(&mut details);
    if !details.iter().any(is_error_info) {
        let reason = match code::said_by_google(answer) {
            Some(_) => code::name(code).to_owned(),
            None => format!("HTTP_{}", answer.http_status),
        };
        details.insert(0, error_info(&reason, GOOGLE_DOMAIN));
    }
    if let Some(wait) = answer.retry_after
        && !details.iter().any(|any| details::is(any, "google.rpc.RetryInfo"))
    {
        details.push(retry_info(wait));
    }

    let http_status = answer.http_status;
    match google.map(|google| google.message.as_deref()) {
        Some(Some(message)) => trailers::status(code, message, details),
        Some(None) => {
            let message = format!("the Android Management API answered HTTP {http_status} without a message");
            trailers::status(code, &message, details)
        }
        None => {
            let message = format!(
                "the Android Management API answered HTTP {http_status} without an error of its own form"
            );
            trailers::status(code, &message, details)
        }
    }
}

/// Keeps the first `ErrorInfo` only. One in our domain is not Google's, whoever wrote it: by that domain
/// callers tell an answer about themselves.
fn keep_googles_error_info(details: &mut Vec<Any>) {
    let mut kept = false;
    details.retain(|any| {
        if !is_error_info(any) {
            return true;
        }
        let googles = <pb::ErrorInfo as prost::Message>::decode(&any.value[..])
            .is_ok_and(|info| info.domain != OUR_DOMAIN);
        googles && !std::mem::replace(&mut kept, true)
    });
}

fn is_error_info(any: &Any) -> bool {
    details::is(any, "google.rpc.ErrorInfo")
}

fn error_info(reason: &str, domain: &str) -> Any {
    let info =
        pb::ErrorInfo { reason: reason.to_owned(), domain: domain.to_owned(), metadata: Default::default() };
    details::pack("google.rpc.ErrorInfo", &info)
}

fn retry_info(wait: Duration) -> Any {
    // Both casts hold: the seconds are bounded, and a second has no more nanoseconds than an i32 holds.
    let delay = prost_types::Duration {
        seconds: wait.as_secs().min(MAX_SECONDS) as i64,
        nanos: if wait.as_secs() < MAX_SECONDS { wait.subsec_nanos() as i32 } else { 0 },
    };
    details::pack("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) })
}

#[cfg(test)]
mod tests;
