//! The statuses that are our own: what is refused before Google is asked, and what goes wrong on our side.

use std::time::Duration;

use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{OUR_DOMAIN, error_info, retry_info};
use crate::operations::{code, details, trailers};

/// The longest description of a field violation, in bytes: it may quote what the caller sent.
const MAX_DESCRIPTION: usize = 1024;

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

/// A message over the size limit: OUT_OF_RANGE, `OUT_OF_RANGE`.
#[must_use]
pub fn too_long(limit: usize) -> Status {
    ours(Code::OutOfRange, "OUT_OF_RANGE", &format!("the message is longer than {limit} bytes"), [])
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

/// A request that is not gRPC's: INVALID_ARGUMENT, `NOT_GRPC`. The message says what would be.
#[must_use]
pub fn not_grpc(message: &str) -> Status {
    ours(Code::InvalidArgument, "NOT_GRPC", message, [])
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

/// A defect of ours, a panic for example: INTERNAL, `INTERNAL`. What happened is for the log.
#[must_use]
pub fn internal() -> Status {
    ours(Code::Internal, "INTERNAL", "an internal error of the proxy", [])
}

/// An error of our own: its `ErrorInfo`, then `more`.
pub(super) fn ours(code: Code, reason: &str, message: &str, more: impl IntoIterator<Item = Any>) -> Status {
    let details = std::iter::once(error_info(reason, OUR_DOMAIN)).chain(more);
    trailers::status(code, message, details.collect())
}
