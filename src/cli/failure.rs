//! A call that did not succeed, and how it is told: one line for a person, one JSON object for a program.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

use super::{
    exit::Exit,
    json,
    output::{self, Format, complain},
};

/// A call that did not succeed, and what the process is to say of it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Box<Status>,
    exit: Exit,
}

impl Failure {
    pub(crate) fn new(status: Status, exit: Exit) -> Self {
        Self { status: Box::new(status), exit }
    }

    pub(crate) fn code(&self) -> Code {
        self.status.code()
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// How long the server asks to be left alone, by its `google.rpc.RetryInfo`.
    pub(crate) fn retry_delay(&self) -> Option<Duration> {
        self.status.get_details_retry_info().and_then(|info| info.retry_delay)
    }

    /// The same failure with another exit code.
    pub(crate) fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Prints it as one line on standard error.
    pub(crate) fn complain(&self) {
        complain(&line(&self.status));
    }

    /// Prints it: as a line on standard error, or as the one JSON object on standard output.
    pub(crate) fn report(&self, format: Format, name: &str) -> Exit {
        match format {
            Format::Text => self.complain(),
            Format::Json => {
                // Its own exit code says more than that the output failed as well.
                let _ = output::to_stdout(&object(name, Some(&self.status)));
            }
        }
        self.exit()
    }

    /// Prints it to standard error in either form, for a command whose standard output is a list.
    pub(crate) fn report_aside(&self, format: Format, name: &str) -> Exit {
        match format {
            Format::Text => self.complain(),
            Format::Json => output::to_stderr(&object(name, Some(&self.status))),
        }
        self.exit()
    }
}

/// `CODE: message (reason R of DOMAIN; retry in 5s; field: description)`.
fn line(status: &Status) -> String {
    let mut line = code_name(status.code()).to_owned();
    if !status.message().is_empty() {
        line = format!("{line}: {}", status.message());
    }
    let details = status.get_error_details();
    let mut hints = Vec::new();
    if let Some(info) = details.error_info() {
        hints.push(format!("reason {} of {}", info.reason, info.domain));
    }
    if let Some(after) = details.retry_info().and_then(|info| info.retry_delay) {
        hints.push(format!("retry in {}", humantime::format_duration(after)));
    }
    for violation in details.bad_request().map_or(&[][..], |request| &request.field_violations) {
        hints.push(format!("{}: {}", violation.field, violation.description));
    }
    if hints.is_empty() { line } else { format!("{line} ({})", hints.join("; ")) }
}

/// What a call that answers with nothing, or with an error, comes to.
#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    code: &'static str,
    #[serde(flatten)]
    error: Option<ErrorMembers<'a>>,
}

/// What an object says of a failure beyond its code.
#[derive(Serialize)]
struct ErrorMembers<'a> {
    message: &'a str,
    details: Vec<Value>,
    /// The bytes of `grpc-status-details-bin` in base64, when they are no `google.rpc.Status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecodable_details: Option<String>,
}

/// The JSON object of a call about `name`; without a status, of one that went well.
pub(crate) fn object(name: &str, status: Option<&Status>) -> String {
    let error = status.map(|status| {
        let decoded = pb::Status::decode(status.details());
        let undecodable_details = decoded.is_err().then(|| STANDARD.encode(status.details()));
        let details = decoded.unwrap_or_default().details.iter().map(json::any).collect();
        ErrorMembers { message: status.message(), details, undecodable_details }
    });
    let code = code_name(status.map_or(Code::Ok, Status::code));
    json::line(&Object { name, code, error })
}

/// The name of the code as `google.rpc.Code` spells it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
