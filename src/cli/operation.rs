//! An operation as text and as JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::DynamicMessage;
use prost_types::{Any, Struct, value::Kind};
use serde::Serialize;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::pb;

use super::{
    exit::Exit,
    output::{self, Format},
};
use crate::{
    operations::status::code_name,
    proto::{
        DESCRIPTORS,
        longrunning::{Operation, operation::Result as Outcome},
    },
};

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationState {
    /// The device may still run the command.
    Pending,
    /// The device ran the command.
    Done,
    /// `error.code` is 1, by the contract of CancelOperation.
    Cancelled,
    /// Any other error, for example an expired command.
    Failed,
}

impl OperationState {
    pub(crate) fn of(operation: &Operation) -> Self {
        match error(operation) {
            _ if !operation.done => Self::Pending,
            None => Self::Done,
            Some((Code::Cancelled, _)) => Self::Cancelled,
            Some(_) => Self::Failed,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Members of AMAPI's `Command`, which is the metadata of an operation. Google publishes no proto for it, so the
/// names are those of the REST reference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandMetadata {
    /// For example `LOCK` or `WIPE`.
    pub(crate) kind: Option<String>,
    /// The issue time, RFC 3339.
    pub(crate) created: Option<String>,
    /// The validity of the command, for example `600s`.
    pub(crate) duration: Option<String>,
    /// The reason why the device did not run the command, for example `UNSUPPORTED`.
    pub(crate) error_code: Option<String>,
}

impl CommandMetadata {
    /// Reads the metadata of an operation. The result is empty if the metadata is not a `Struct`.
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
        Some(Outcome::Error(status)) if status.code != 0 => Some((Code::from(status.code), &status.message)),
        _ => None,
    }
}

/// `CODE: message` of a failed or cancelled operation.
pub(crate) fn error_text(operation: &Operation) -> Option<String> {
    error(operation).map(|(code, message)| match message {
        "" => code_name(code).to_owned(),
        _ => format!("{}: {message}", code_name(code)),
    })
}

/// The name of an operation's device; the whole text if it is no name of an operation.
pub(crate) fn device_of(operation: &str) -> &str {
    operation.split_once("/operations/").map_or(operation, |(device, _)| device)
}

/// Prints a block of `label: value` lines, or one line of JSON.
pub(crate) fn print(format: Format, operation: &Operation) -> Exit {
    match format {
        Format::Text => output::all_to_stdout(&block(operation)),
        Format::Json => output::to_stdout(&json(operation)),
    }
}

fn block(operation: &Operation) -> Vec<String> {
    let CommandMetadata { kind, created, duration, error_code } = CommandMetadata::of(operation);
    [
        ("name", Some(operation.name.clone())),
        ("state", Some(OperationState::of(operation).word().to_owned())),
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

/// `google.longrunning.Operation` in protobuf's JSON mapping. A false `done` is present too, because scripts test it.
#[derive(Serialize)]
pub(crate) struct OperationJson<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RpcStatusJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Value>,
}

/// `google.rpc.Status` in protobuf's JSON mapping.
#[derive(Serialize)]
struct RpcStatusJson<'a> {
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Value>,
}

/// One line of JSON.
pub(crate) fn json(operation: &Operation) -> String {
    to_json(&json_form(operation))
}

/// The operation in the form of its JSON.
pub(crate) fn json_form(operation: &Operation) -> OperationJson<'_> {
    let Operation { name, metadata, done, result } = operation;
    let (error, response) = match result {
        None => (None, None),
        Some(Outcome::Error(pb::Status { code, message, details })) => (
            Some(RpcStatusJson { code: *code, message, details: details.iter().map(any_json).collect() }),
            None,
        ),
        Some(Outcome::Response(response)) => (None, Some(any_json(response))),
    };
    OperationJson { name, metadata: metadata.as_ref().map(any_json), done: *done, error, response }
}

/// The JSON of a message of any type. An undecodable message has its type and its bytes in base64, so that the rest
/// of the object stays readable.
pub(crate) fn any_json(any: &Any) -> Value {
    DESCRIPTORS
        .get_message_by_name("google.protobuf.Any")
        .and_then(|descriptor| DynamicMessage::decode(descriptor, &*any.encode_to_vec()).ok())
        .and_then(|message| serde_json::to_value(message).ok())
        .unwrap_or_else(|| json!({"@type": any.type_url, "value": STANDARD.encode(&any.value)}))
}

pub(crate) fn to_json(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("the keys are strings, and no value fails to serialize")
}

#[cfg(test)]
mod tests;
