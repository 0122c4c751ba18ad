//! What the client commands print: one line for a person, or one JSON object for a program.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

use super::exit::Exit;
use crate::proto::DESCRIPTORS;

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One line for a person: success on standard output, errors on standard error.
    #[default]
    Text,
    /// One JSON object on standard output, for success and failure alike.
    Json,
}

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

    /// Prints it as one line on standard error.
    pub(crate) fn complain(&self) {
        complain(&line(&self.status));
    }
}

/// Prints how the call about `name` ended: `done` says it to a person.
pub(crate) fn outcome(format: Format, name: &str, done: &str, result: &Result<(), Failure>) -> Exit {
    let printed = match (format, result) {
        (Format::Text, Ok(())) => to_stdout(done),
        (Format::Text, Err(failure)) => {
            failure.complain();
            failure.exit
        }
        (Format::Json, Ok(())) => to_stdout(&json!({"name": name, "code": code_name(Code::Ok)}).to_string()),
        (Format::Json, Err(failure)) => to_stdout(&json(name, &failure.status).to_string()),
    };
    match result {
        Err(failure) => failure.exit,
        Ok(()) => printed,
    }
}

/// Prints a line to standard output.
pub(crate) fn to_stdout(line: &str) -> Exit {
    match writeln!(io::stdout(), "{}", printable(line)) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&format!("the output cannot be written: {error}"));
            Exit::Failed
        }
    }
}

/// Prints a line to standard error, with the program's name before it.
pub(crate) fn complain(line: &str) {
    to_stderr(&format!("countermand: {line}"));
}

/// Prints a line to standard error. When even that fails, only the exit code is left to tell.
pub(crate) fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// `text` with each character that would act on a terminal, or hide, as a `\u` escape of JSON: what is
/// printed may come from a server, and within JSON the escape means the character itself.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let acts = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            _ if acts => {
                // All of these are below U+10000, so that four digits are enough.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            _ => safe.push(c),
        }
    }
    safe
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

fn json(name: &str, status: &Status) -> Value {
    let mut object = json!({
        "name": name,
        "code": code_name(status.code()),
        "message": status.message(),
    });
    match pb::Status::decode(status.details()) {
        Ok(rpc) => object["details"] = rpc.details.iter().map(detail).collect(),
        Err(_) => object["undecodable_details"] = STANDARD.encode(status.details()).into(),
    }
    object
}

/// A detail in protobuf's JSON mapping; one that cannot be read keeps its type and has its bytes in base64.
fn detail(any: &prost_types::Any) -> Value {
    DESCRIPTORS
        .get_message_by_name("google.protobuf.Any")
        .and_then(|descriptor| DynamicMessage::decode(descriptor, &*any.encode_to_vec()).ok())
        .and_then(|message| serde_json::to_value(message).ok())
        .unwrap_or_else(|| json!({"@type": any.type_url, "value": STANDARD.encode(&any.value)}))
}

/// The name of the code as `google.rpc.Code` spells it.
fn code_name(code: Code) -> &'static str {
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
