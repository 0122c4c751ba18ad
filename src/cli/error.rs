//! A failed client command: one line for a person, one JSON object for a program.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

use super::{
    exit::Exit,
    operation::{any_json, to_json},
    output::{self, Format, complain},
};
use crate::operations::status::{OUR_DOMAIN, code_name};

/// The reasons of transient errors that are not about one call.
const SERVER_REASONS: &[&str] =
    &["OVERLOADED", "SHUTTING_DOWN", "CREDENTIAL_UNAVAILABLE", "JWKS_UNAVAILABLE", "AUDIT_UNAVAILABLE"];

/// A failed call or connection, and the exit code of the process.
#[derive(Debug)]
pub(crate) struct ClientError {
    status: Box<Status>,
    exit: Exit,
}

impl ClientError {
    pub(crate) fn new(status: Status, exit: Exit) -> Self {
        Self { status: Box::new(status), exit }
    }

    pub(crate) fn code(&self) -> Code {
        self.status.code()
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The delay of the server's `google.rpc.RetryInfo`.
    pub(crate) fn retry_delay(&self) -> Option<Duration> {
        self.status.get_details_retry_info().and_then(|info| info.retry_delay)
    }

    /// Whether a later call may succeed: the server or its upstream is unavailable, the deadline passed, or the server has
    /// spent its budget of Google's quota. Another RESOURCE_EXHAUSTED is Google's, which asks for silence.
    pub(crate) fn is_transient(&self) -> bool {
        match self.code() {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::ResourceExhausted => self.has_our_reason(&["QUOTA_BUDGET"]),
            _ => false,
        }
    }

    /// Whether the server itself is not ready, so that each call gets this error.
    pub(crate) fn is_of_server(&self) -> bool {
        self.has_our_reason(SERVER_REASONS)
    }

    fn has_our_reason(&self, reasons: &[&str]) -> bool {
        self.status
            .get_details_error_info()
            .is_some_and(|info| info.domain == OUR_DOMAIN && reasons.contains(&&*info.reason))
    }

    /// Whether a later attempt may succeed, as for [`Self::is_transient`], or when Google's quota allows it.
    pub(crate) fn is_transient_or_quota(&self) -> bool {
        self.is_transient() || self.code() == Code::ResourceExhausted
    }

    /// The message of the status.
    pub(crate) fn message(&self) -> &str {
        self.status.message()
    }

    /// The error as one line.
    pub(crate) fn line(&self) -> String {
        line(&self.status)
    }

    /// Prints one line to standard error.
    pub(crate) fn complain(&self) {
        complain(&self.line());
    }

    /// Prints one line to standard error, or one JSON object to standard output.
    pub(crate) fn report(&self, format: Format, name: &str) -> Exit {
        match format {
            Format::Text => self.complain(),
            Format::Json => {
                // A failed output must not replace the exit code of this error.
                let _ = output::to_stdout(&json(name, Some(&self.status)));
            }
        }
        self.exit
    }

    /// Prints to standard error in both formats, for a command whose standard output is a list.
    pub(crate) fn report_to_stderr(&self, format: Format, name: &str) -> Exit {
        match format {
            Format::Text => self.complain(),
            Format::Json => output::to_stderr(&json(name, Some(&self.status))),
        }
        self.exit
    }
}

/// `CODE: message (reason R of DOMAIN; retry in 5s; field: description; subject of a quota: description)`.
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
        // Many servers repeat the violation in the message.
        if !status.message().contains(&violation.description) {
            hints.push(format!("{}: {}", violation.field, violation.description));
        }
    }
    for violation in details.quota_failure().map_or(&[][..], |failure| &failure.violations) {
        hints.push(format!("{}: {}", violation.subject, violation.description));
    }
    if hints.is_empty() { line } else { format!("{line} ({})", hints.join("; ")) }
}

/// The outcome of a call without a response message.
#[derive(Serialize)]
struct OutcomeJson<'a> {
    name: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Vec<Value>>,
    /// The bytes of `grpc-status-details-bin` in base64, when they are not a `google.rpc.Status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecodable_details: Option<String>,
}

/// The JSON object of a call about `name`. Without a status, the call succeeded.
pub(crate) fn json(name: &str, status: Option<&Status>) -> String {
    let code = code_name(status.map_or(Code::Ok, Status::code));
    let decoded = status.map(|status| pb::Status::decode(status.details()));
    to_json(&OutcomeJson {
        name,
        code,
        message: status.map(Status::message),
        undecodable_details: status
            .filter(|_| matches!(decoded, Some(Err(_))))
            .map(|status| STANDARD.encode(status.details())),
        details: decoded.map(|status| status.unwrap_or_default().details.iter().map(any_json).collect()),
    })
}

#[cfg(test)]
mod tests;
