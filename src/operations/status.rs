//! Makes the gRPC status of every error: its code, its message and its details.
//!
//! A message has no cause, no address and no part of a response that is not Google's JSON. [`status_size`] limits
//! the size of all trailers to what gRPC clients accept.

use std::{borrow::Cow, time::Duration};

use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{status_size, translate};
use crate::amapi::error::{Error, ErrorResponse, MAX_URL};

/// The `domain` of every error that this server originates.
pub const OUR_DOMAIN: &str = "countermand";

/// The `domain` of an error that Google returned.
pub const GOOGLE_DOMAIN: &str = "androidmanagement.googleapis.com";

/// The upper bound of `google.protobuf.Duration.seconds`.
const MAX_DURATION_SECONDS: u64 = 315_576_000_000;

/// The longest description of a field violation, in bytes, because it may quote the request.
const MAX_DESCRIPTION: usize = 1024;

/// The message with which the Android Management API reports a missing entity as HTTP 500 instead of 404.
const NOT_FOUND_MESSAGE: &str = "Requested entity was not found.";

/// The names of `google.rpc.Code`.
const CODE_NAMES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// The name of a code as `google.rpc.Code` and Google's JSON spell it, for example `NOT_FOUND`.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    CODE_NAMES.iter().find(|entry| entry.0 == code).map_or("UNKNOWN", |entry| entry.1)
}

/// The gRPC code of a failed call to the Android Management API. Never OK.
#[must_use]
pub fn code_of(error: &Error) -> Code {
    match error {
        Error::NoCredential => Code::FailedPrecondition,
        Error::UrlTooLong { .. } | Error::NotBuilt { .. } => Code::InvalidArgument,
        Error::Response(response) if !response.rejects_credential() => code_of_response(response),
        // UNAUTHENTICATED would refer to the caller's credential.
        Error::Response(_) | Error::CredentialRejected(_) => Code::Internal,
        Error::Malformed { .. } | Error::BodyTooLong { .. } | Error::NotHttp { .. } | Error::Lost => {
            Code::Internal
        }
        Error::CredentialUnavailable { .. } | Error::Unreachable { .. } => Code::Unavailable,
        Error::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        Error::QuotaBudget { .. } => Code::ResourceExhausted,
        Error::Abandoned => Code::Cancelled,
    }
}

/// The status of a failed call to the Android Management API, with the code [`code_of`]. Never OK.
#[must_use]
pub fn from_upstream(error: &Error) -> Status {
    let local = |reason, message: &str, more: Vec<Any>| local(code_of(error), reason, message, more);
    let malformed = |what: &str, http_status: u16| {
        let message =
            format!("the response, HTTP {http_status}, is not from the Android Management API: {what}");
        local("UPSTREAM_MALFORMED", &message, Vec::new())
    };
    match error {
        Error::NoCredential => local(
            "NO_CREDENTIAL_FOR_ENTERPRISE",
            "the proxy has no credential for this enterprise",
            Vec::new(),
        ),
        Error::UrlTooLong { field, url_length } => invalid_field(
            field,
            "URL_TOO_LONG",
            &format!(
                "too long for a URL: the request to the Android Management API would have a URL of {url_length} \
                 bytes, and the limit is {MAX_URL}"
            ),
        ),
        Error::NotBuilt { cause: _ } => local(
            "REQUEST_NOT_BUILT",
            "no request to the Android Management API can have the fields of this request",
            Vec::new(),
        ),
        Error::Response(response) if !response.rejects_credential() => google_error(response),
        // Google's response is not forwarded, because a caller would apply UNAUTHENTICATED to its own credential.
        Error::Response(_) | Error::CredentialRejected(_) => local(
            "UPSTREAM_CREDENTIAL_REJECTED",
            "the Android Management API rejected the proxy's credential",
            Vec::new(),
        ),
        Error::CredentialUnavailable { retry_after } => local(
            "CREDENTIAL_UNAVAILABLE",
            "the proxy has no valid token for the Android Management API at the moment",
            vec![retry_info(*retry_after)],
        ),
        Error::Malformed { what, http_status } => malformed(what, *http_status),
        Error::BodyTooLong { http_status } => malformed("a body of more than 4 MiB", *http_status),
        Error::NotHttp { cause: _ } => local(
            "UPSTREAM_MALFORMED",
            "the upstream of the Android Management API does not speak HTTP",
            Vec::new(),
        ),
        Error::Unreachable { cause: _ } => local(
            "UPSTREAM_UNREACHABLE",
            "the Android Management API did not send a complete response",
            Vec::new(),
        ),
        Error::DeadlineExceeded { while_doing } => deadline_exceeded(while_doing),
        Error::QuotaBudget { retry_after, project } => quota_budget(*retry_after, project),
        // No caller is left, so this status is only for the audit log.
        Error::Abandoned => Status::new(code_of(error), "the caller disconnected"),
        Error::Lost => internal(),
    }
}

/// The gRPC code of an error that Google returned: from a known quirk, otherwise from the error's `status`,
/// otherwise from the HTTP status. Never OK.
pub(super) fn code_of_response(response: &ErrorResponse) -> Code {
    match (response.http_status, response.google.as_deref()) {
        (403, _) if response.is_quota_refusal() => Code::ResourceExhausted,
        (500, Some(google)) if google.message.as_deref() == Some(NOT_FOUND_MESSAGE) => Code::NotFound,
        _ => google_code(response).unwrap_or_else(|| http_code(response.http_status)),
    }
}

/// The error's `status`. `None` when it is missing, unknown or `OK`.
fn google_code(response: &ErrorResponse) -> Option<Code> {
    let status = response.google.as_ref()?.status.as_deref()?;
    CODE_NAMES.iter().find(|entry| entry.1 == status && entry.0 != Code::Ok).map(|entry| entry.0)
}

/// Inverts <https://cloud.google.com/apis/design/errors#handling_errors>. Where several codes share an HTTP
/// status, the result is the most general code.
fn http_code(status: u16) -> Code {
    match status {
        400 => Code::InvalidArgument,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        412 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        501 => Code::Unimplemented,
        408 | 425 | 502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        // Includes 401, which `from_upstream` handles separately.
        401..=498 => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

fn google_error(response: &ErrorResponse) -> Status {
    let code = code_of_response(response);
    let http_status = response.http_status;
    let (message, mut details) = match response.google.as_deref() {
        Some(google) => {
            let message = google.message.as_deref().map(Cow::from).unwrap_or_else(|| {
                format!("the Android Management API answered HTTP {http_status} without a message").into()
            });
            (message, translate::error_details(&google.details))
        }
        None => {
            let message = format!(
                "the Android Management API answered HTTP {http_status} without an error in Google's format"
            );
            (message.into(), Vec::new())
        }
    };

    let mut has_error_info = false;
    details.retain(|any| {
        !is_error_info(any) || (is_from_google(any) && !std::mem::replace(&mut has_error_info, true))
    });
    if !has_error_info {
        let reason = match google_code(response) {
            Some(_) => code_name(code).to_owned(),
            None => format!("HTTP_{http_status}"),
        };
        details.insert(0, error_info(&reason, GOOGLE_DOMAIN));
    }
    if let Some(delay) = response.retry_after
        && !details.iter().any(|any| translate::is_type(any, "google.rpc.RetryInfo"))
    {
        details.push(retry_info(delay));
    }
    status_size::limited(code, &message, details)
}

/// A name that the method does not accept: INVALID_ARGUMENT, `INVALID_NAME`, with a field violation on
/// `name`.
#[must_use]
pub fn invalid_name(description: &str) -> Status {
    invalid_field("name", "INVALID_NAME", description)
}

/// A request field that the method does not accept: INVALID_ARGUMENT with a field violation. The description
/// states the error and the accepted format. It is cut at 1 KiB.
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
    local(
        Code::InvalidArgument,
        reason,
        &format!("{field}: {description}"),
        [translate::pack("google.rpc.BadRequest", &violations)],
    )
}

/// A request message over the size limit: INVALID_ARGUMENT, `REQUEST_TOO_LARGE`.
#[must_use]
pub fn too_long(limit: usize) -> Status {
    local(
        Code::InvalidArgument,
        "REQUEST_TOO_LARGE",
        &format!("the message is longer than {limit} bytes"),
        [],
    )
}

/// A malformed `grpc-timeout` header: INVALID_ARGUMENT, `INVALID_GRPC_TIMEOUT`.
#[must_use]
pub fn invalid_timeout() -> Status {
    local(
        Code::InvalidArgument,
        "INVALID_GRPC_TIMEOUT",
        "grpc-timeout is not one to eight digits and a unit of H, M, S, m, u or n",
        [],
    )
}

/// A request that does not follow the gRPC protocol: INVALID_ARGUMENT, `NOT_GRPC`. The message states what
/// gRPC requires.
#[must_use]
pub fn not_grpc(message: &str) -> Status {
    local(Code::InvalidArgument, "NOT_GRPC", message, [])
}

/// The server is at its limit of concurrent calls: UNAVAILABLE, `OVERLOADED`, with RetryInfo. Not
/// RESOURCE_EXHAUSTED, because that reports Google's quota.
#[must_use]
pub fn overloaded(retry_after: Duration) -> Status {
    local(Code::Unavailable, "OVERLOADED", "too many calls are in flight", [retry_info(retry_after)])
}

/// The caller is at its own limit of concurrent calls: UNAVAILABLE, `OVERLOADED`, with RetryInfo.
#[must_use]
pub fn overloaded_by_caller(retry_after: Duration) -> Status {
    let message = "too many calls of this caller are in flight";
    local(Code::Unavailable, "OVERLOADED", message, [retry_info(retry_after)])
}

/// The policy denies the call: PERMISSION_DENIED, `NOT_PERMITTED`. The text does not depend on whether the
/// operation exists.
#[must_use]
pub fn denied() -> Status {
    local(Code::PermissionDenied, "NOT_PERMITTED", "the policy does not permit this call", [])
}

/// A trusted proxy forwarded a malformed identity: UNAUTHENTICATED, `INVALID_FORWARDED_IDENTITY`.
#[must_use]
pub fn invalid_forwarded_identity(message: &str) -> Status {
    local(Code::Unauthenticated, "INVALID_FORWARDED_IDENTITY", message, [])
}

/// A bearer token that does not verify: UNAUTHENTICATED, `INVALID_TOKEN`. The message must not quote the
/// token.
#[must_use]
pub fn invalid_token(message: &str) -> Status {
    local(Code::Unauthenticated, "INVALID_TOKEN", message, [])
}

/// The keys that verify bearer tokens are not available: UNAVAILABLE, `JWKS_UNAVAILABLE`, with RetryInfo.
#[must_use]
pub fn keys_unavailable(message: &str, retry_after: Duration) -> Status {
    local(Code::Unavailable, "JWKS_UNAVAILABLE", message, [retry_info(retry_after)])
}

/// A method of the contract that this server does not implement: UNIMPLEMENTED, `NOT_SUPPORTED`.
#[must_use]
pub fn not_supported(method: &str) -> Status {
    local(Code::Unimplemented, "NOT_SUPPORTED", &format!("{method} is not supported"), [])
}

/// The deadline passed: DEADLINE_EXCEEDED. Never CANCELLED, because that describes a cancelled operation.
/// `while_doing` completes "the deadline passed …".
#[must_use]
pub fn deadline_exceeded(while_doing: &str) -> Status {
    local(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", &format!("the deadline passed {while_doing}"), [])
}

/// The audit log cannot record the call: UNAVAILABLE, `AUDIT_UNAVAILABLE`, with RetryInfo. The call may have
/// taken effect if the log failed after the request was sent.
#[must_use]
pub fn audit_unavailable(retry_after: Duration) -> Status {
    local(
        Code::Unavailable,
        "AUDIT_UNAVAILABLE",
        "the audit log cannot be written at the moment",
        [retry_info(retry_after)],
    )
}

/// The process ends before the call completes: UNAVAILABLE, `SHUTTING_DOWN`. A request that was sent may still take
/// effect.
#[must_use]
pub fn shutting_down() -> Status {
    local(Code::Unavailable, "SHUTTING_DOWN", "the proxy shut down before this call completed", [])
}

/// The turn of a call in the budget of its Google project comes after the deadline: RESOURCE_EXHAUSTED, `QUOTA_BUDGET`,
/// with RetryInfo and QuotaFailure. An empty `project` is unknown.
fn quota_budget(retry_after: Duration, project: &str) -> Status {
    let subject = if project.is_empty() { "project".to_owned() } else { format!("project:{project}") };
    let violation = pb::quota_failure::Violation {
        subject,
        description: "the queries until the deadline are for calls that came earlier or are more important"
            .to_owned(),
        ..Default::default()
    };
    let violations = pb::QuotaFailure { violations: vec![violation] };
    local(
        Code::ResourceExhausted,
        "QUOTA_BUDGET",
        "the proxy did not send the call, because the quota of the Google project has no query for it before the deadline",
        // A caller that waits in milliseconds must not return too early.
        [
            retry_info(Duration::from_millis(millis_rounded_up(retry_after))),
            translate::pack("google.rpc.QuotaFailure", &violations),
        ],
    )
}

fn millis_rounded_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A defect of this server, for example a panic: INTERNAL, `INTERNAL`. The log has the cause.
#[must_use]
pub fn internal() -> Status {
    local(Code::Internal, "INTERNAL", "an internal error of the proxy", [])
}

/// Adds an `ErrorInfo` to an error of the gRPC library: a message that is too long or does not decode, or an
/// unknown method. The code is unchanged, because gRPC defines it. The reason is the name of the code.
#[must_use]
pub fn from_tonic(error: &Status) -> Status {
    let message = if error.message().is_empty() { "unknown method" } else { error.message() };
    let mut status = local(error.code(), code_name(error.code()), message, []);
    // Keeps `grpc-accept-encoding`, which names the supported compressions.
    *status.metadata_mut() = error.metadata().clone();
    status
}

/// An error that this server originates: its `ErrorInfo`, then `more`.
fn local(code: Code, reason: &str, message: &str, more: impl IntoIterator<Item = Any>) -> Status {
    let details = std::iter::once(error_info(reason, OUR_DOMAIN)).chain(more);
    status_size::limited(code, message, details.collect())
}

fn is_error_info(any: &Any) -> bool {
    translate::is_type(any, "google.rpc.ErrorInfo")
}

/// Whether the domain of an `ErrorInfo` is not this server's. Callers rely on this server's domain for errors about
/// themselves, so a response of Google must not use it.
fn is_from_google(error_info: &Any) -> bool {
    <pb::ErrorInfo as prost::Message>::decode(&error_info.value[..])
        .is_ok_and(|info| info.domain != OUR_DOMAIN)
}

fn error_info(reason: &str, domain: &str) -> Any {
    let info =
        pb::ErrorInfo { reason: reason.to_owned(), domain: domain.to_owned(), metadata: Default::default() };
    translate::pack("google.rpc.ErrorInfo", &info)
}

fn retry_info(delay: Duration) -> Any {
    // Both casts are lossless, because seconds are limited and nanoseconds are below 10⁹.
    let delay = prost_types::Duration {
        seconds: delay.as_secs().min(MAX_DURATION_SECONDS) as i64,
        nanos: if delay.as_secs() < MAX_DURATION_SECONDS { delay.subsec_nanos() as i32 } else { 0 },
    };
    translate::pack("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) })
}

#[cfg(test)]
mod tests;
