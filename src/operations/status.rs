//! From every way in which a call can fail to the status that its caller gets. The text for callers holds
//! no cause, no address and nothing of an answer that is not Google's JSON.

use std::time::Duration;

use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{code, details, trailers};
use crate::amapi::error::{Answer, Error};

/// The `domain` of every error that is our own.
pub const OUR_DOMAIN: &str = "countermand";

/// The `domain` of an error that Google answered with.
pub const GOOGLE_DOMAIN: &str = "androidmanagement.googleapis.com";

/// The most seconds that `google.protobuf.Duration` holds.
const MAX_SECONDS: u64 = 315_576_000_000;

/// The longest description of a field violation, in bytes: it may quote what the caller sent.
const MAX_DESCRIPTION: usize = 1024;

/// The status of a call to the Android Management API that did not succeed. Never OK.
#[must_use]
pub fn from_upstream(error: &Error) -> Status {
    match error {
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

/// A name that is not what the method takes: INVALID_ARGUMENT, `INVALID_NAME`, with a field violation on
/// `name`.
#[must_use]
pub fn invalid_name(description: &str) -> Status {
    invalid_field("name", "INVALID_NAME", description)
}

/// A field of the request that is not what the method takes: INVALID_ARGUMENT with a field violation. The
/// description says what is wrong and what would be right; it is cut at 1 KiB.
#[must_use]
pub fn invalid_field(field: &str, reason: &str, description: &str) -> Status {
    let description = &description[..description.floor_char_boundary(MAX_DESCRIPTION)];
    let violation = pb::bad_request::FieldViolation {
        field: field.to_owned(),
        description: description.to_owned(),
        reason: reason.to_owned(),
        localized_message: None,
    };
    let violations = pb::BadRequest { field_violations: vec![violation] };
    ours(
        Code::InvalidArgument,
        reason,
        &format!("{field}: {description}"),
        [details::pack("google.rpc.BadRequest", &violations)],
    )
}

/// A `grpc-timeout` header that is not one: INVALID_ARGUMENT, `INVALID_GRPC_TIMEOUT`.
#[must_use]
pub fn invalid_timeout() -> Status {
    ours(
        Code::InvalidArgument,
        "INVALID_GRPC_TIMEOUT",
        "grpc-timeout is not one to eight digits and a unit of H, M, S, m, u or n",
        [],
    )
}

/// More calls than we take at once: UNAVAILABLE, `OVERLOADED`, with RetryInfo. Not RESOURCE_EXHAUSTED,
/// which is Google's quota.
#[must_use]
pub fn overloaded(retry_after: Duration) -> Status {
    ours(Code::Unavailable, "OVERLOADED", "too many calls are in flight", [retry_info(retry_after)])
}

/// What the policy does not permit: PERMISSION_DENIED, `NOT_PERMITTED`. The text is the same whether the
/// operation exists or not.
#[must_use]
pub fn denied() -> Status {
    ours(Code::PermissionDenied, "NOT_PERMITTED", "the caller may not do this here", [])
}

/// An identity that a trusted proxy forwards and that cannot be understood: UNAUTHENTICATED,
/// `INVALID_FORWARDED_IDENTITY`. The message says what is wrong.
#[must_use]
pub fn invalid_forwarded_identity(message: &str) -> Status {
    ours(Code::Unauthenticated, "INVALID_FORWARDED_IDENTITY", message, [])
}

/// A bearer token that does not verify: UNAUTHENTICATED, `INVALID_TOKEN`. The message says what is wrong,
/// and holds nothing of the token.
#[must_use]
pub fn invalid_token(message: &str) -> Status {
    ours(Code::Unauthenticated, "INVALID_TOKEN", message, [])
}

/// The keys that bearer tokens are verified with cannot be had: UNAVAILABLE, `JWKS_UNAVAILABLE`, with
/// RetryInfo.
#[must_use]
pub fn keys_unavailable(message: &str, retry_after: Duration) -> Status {
    ours(Code::Unavailable, "JWKS_UNAVAILABLE", message, [retry_info(retry_after)])
}

/// What the gRPC library refuses by itself (a message that is too long or cannot be decoded, a method that
/// does not exist) with what it lacks: an `ErrorInfo`, whose reason is the name of the code. The code stays;
/// it is the one that gRPC prescribes.
#[must_use]
pub fn refused_by_the_library(refused: &Status) -> Status {
    let message = if refused.message().is_empty() { "there is no such method" } else { refused.message() };
    let mut status = ours(refused.code(), code::name(refused.code()), message, []);
    // `grpc-accept-encoding`, of a compression that is not supported.
    *status.metadata_mut() = refused.metadata().clone();
    status
}

/// A method of the contract that this server does not have, by its name: UNIMPLEMENTED, `NOT_SUPPORTED`.
#[must_use]
pub fn not_supported(method: &str) -> Status {
    ours(Code::Unimplemented, "NOT_SUPPORTED", &format!("{method} is not supported"), [])
}

/// The call's time is over: DEADLINE_EXCEEDED, never CANCELLED, which a reader would take for a cancelled
/// operation. `while_doing` completes "the deadline passed …".
#[must_use]
pub fn deadline_exceeded(while_doing: &str) -> Status {
    ours(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", &format!("the deadline passed {while_doing}"), [])
}

/// No line of the call can be written to the audit log: UNAVAILABLE, `AUDIT_UNAVAILABLE`, with RetryInfo. What
/// was asked for may have been done all the same, when the log failed in the course of the call.
#[must_use]
pub fn audit_unavailable(retry_after: Duration) -> Status {
    ours(
        Code::Unavailable,
        "AUDIT_UNAVAILABLE",
        "the audit log cannot be written at the moment",
        [retry_info(retry_after)],
    )
}

/// The process ends before the call does: UNAVAILABLE, `SHUTTING_DOWN`. What was sent may still take effect.
#[must_use]
pub fn shutting_down() -> Status {
    ours(Code::Unavailable, "SHUTTING_DOWN", "the proxy shuts down, and could not wait for this call", [])
}

/// The name of a code as `google.rpc.Code` and Google's JSON spell it: `NOT_FOUND`.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    code::name(code)
}

/// A defect of ours, a panic for example: INTERNAL, `INTERNAL`. What happened is for the log.
#[must_use]
pub fn internal() -> Status {
    ours(Code::Internal, "INTERNAL", "an internal error of the proxy", [])
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

/// An error of our own: its `ErrorInfo`, then `more`.
fn ours(code: Code, reason: &str, message: &str, more: impl IntoIterator<Item = Any>) -> Status {
    let details = std::iter::once(error_info(reason, OUR_DOMAIN)).chain(more);
    trailers::status(code, message, details.collect())
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
