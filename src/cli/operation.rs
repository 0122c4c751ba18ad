//! What an operation looks like to a person, and which of its four states it is in.

use prost::Message;
use prost_types::{Any, Struct, value::Kind};
use tonic::Code;

use super::{
    exit::Exit,
    failure::code_name,
    json,
    output::{self, Format},
};
use crate::proto::longrunning::{Operation, operation::Result as Ended};

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The device may still run the command.
    Pending,
    /// It was carried out.
    Done,
    /// It was called back: `error.code` 1, by the contract of CancelOperation.
    Cancelled,
    /// It ended with any other error, its time being up among them.
    Failed,
}

impl State {
    pub(crate) fn of(operation: &Operation) -> Self {
        match error(operation) {
            _ if !operation.done => Self::Pending,
            None => Self::Done,
            Some((Code::Cancelled, _)) => Self::Cancelled,
            Some(_) => Self::Failed,
        }
    }

    /// One word, as it is printed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// The members of AMAPI's `Command`, the metadata, that say something to a person. Google publishes no
/// proto for it; the names are those of the REST reference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// `LOCK`, `WIPE` and so on.
    pub(crate) kind: Option<String>,
    /// When it was issued, RFC 3339.
    pub(crate) created: Option<String>,
    /// For how long the device may still run it, as `600s`.
    pub(crate) duration: Option<String>,
    /// Why the device did not run it, as `UNSUPPORTED`.
    pub(crate) error_code: Option<String>,
}

impl Command {
    /// Nothing, when the metadata is no `Struct`.
    pub(crate) fn of(operation: &Operation) -> Self {
        let Some(mut members) = operation.metadata.as_ref().and_then(members) else {
            return Self::default();
        };
        let mut text = |name: &str| match members.fields.remove(name)?.kind? {
            Kind::StringValue(text) => Some(text),
            _ => None,
        };
        Self {
            kind: text("type"),
            created: text("createTime"),
            duration: text("duration"),
            error_code: text("errorCode"),
        }
    }
}

fn members(any: &Any) -> Option<Struct> {
    let is_struct = any.type_url.rsplit('/').next() == Some("google.protobuf.Struct");
    is_struct.then(|| Struct::decode(&*any.value).ok()).flatten()
}

fn error(operation: &Operation) -> Option<(Code, &str)> {
    match &operation.result {
        Some(Ended::Error(status)) if status.code != 0 => Some((Code::from(status.code), &status.message)),
        _ => None,
    }
}

/// `CODE: message` of an operation that failed.
pub(crate) fn error_text(operation: &Operation) -> Option<String> {
    error(operation).map(|(code, message)| match message {
        "" => code_name(code).to_owned(),
        _ => format!("{}: {message}", code_name(code)),
    })
}

/// Prints an operation: a block of `label: value` lines, or one line of JSON.
pub(crate) fn print(format: Format, operation: &Operation) -> Exit {
    let lines = match format {
        Format::Text => block(operation),
        Format::Json => vec![json::operation(operation)],
    };
    output::all_to_stdout(&lines)
}

fn block(operation: &Operation) -> Vec<String> {
    let Command { kind, created, duration, error_code } = Command::of(operation);
    [
        ("name", Some(operation.name.clone())),
        ("state", Some(State::of(operation).word().to_owned())),
        ("type", kind),
        ("created", created),
        ("duration", duration),
        ("error", error_text(operation)),
        ("on device", error_code),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some(format!("{:<11}{}", format!("{label}:"), value?)))
    .collect()
}

#[cfg(test)]
mod tests;
