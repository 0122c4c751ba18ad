//! Which gRPC code an answer of Google's means.

use tonic::Code;

use crate::amapi::error::Answer;

/// Reasons under which some of Google's APIs refuse for quota with 403 in place of 429.
const QUOTA_REASONS: [&str; 3] = ["rateLimitExceeded", "RATE_LIMIT_EXCEEDED", "quotaExceeded"];

/// The message of the 500 that stands for a 404, seen by users of the Android Management API.
const NOT_FOUND_MESSAGE: &str = "Requested entity was not found.";

/// The code: by a quirk seen in the field, else by the error's `status`, else by the HTTP status. Never
/// `Ok`.
pub(super) fn of(answer: &Answer) -> Code {
    quirk(answer).or_else(|| said_by_google(answer)).unwrap_or_else(|| from_http(answer.http_status))
}

fn quirk(answer: &Answer) -> Option<Code> {
    let google = answer.google.as_ref()?;
    match answer.http_status {
        403 if google.has_reason(&QUOTA_REASONS) => Some(Code::ResourceExhausted),
        500 if google.message.as_deref() == Some(NOT_FOUND_MESSAGE) => Some(Code::NotFound),
        _ => None,
    }
}

/// The error's own status, when it is one of the sixteen that an error can have.
pub(super) fn said_by_google(answer: &Answer) -> Option<Code> {
    from_name(answer.google.as_ref()?.status.as_deref()?)
}

/// <https://cloud.google.com/apis/design/errors#handling_errors>, read backwards; what several codes
/// share goes to the one that makes no client act wrongly.
fn from_http(status: u16) -> Code {
    match status {
        400 => Code::InvalidArgument,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Aborted,
        412 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        // 401 among them: `status` tells it as the credential's before it asks here.
        401..=498 => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

/// The names of `google.rpc.Code`, but for `OK`.
const NAMES: [(Code, &str); 16] = [
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

fn from_name(name: &str) -> Option<Code> {
    NAMES.iter().find(|known| known.1 == name).map(|known| known.0)
}

/// The name of a code as `google.rpc.Code` and Google's JSON spell it: `NOT_FOUND`.
#[must_use]
pub(super) fn name(code: Code) -> &'static str {
    NAMES.iter().find(|known| known.0 == code).map_or("OK", |known| known.1)
}
