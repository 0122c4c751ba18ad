//! An operation in its two forms: AMAPI's JSON for Countermand, the gRPC message for callers. Both are written
//! out here, apart from Countermand's code, so that no error is common to both.

use std::sync::LazyLock;

use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};

/// The members of AMAPI's type `Command` (`enterprises.devices.issueCommand`). Google publishes no proto for it,
/// so `@type` stays a member.
const COMMAND: [(&str, &str); 5] = [
    ("@type", "type.googleapis.com/google.android.devicemanagement.v1.Command"),
    ("type", "LOCK"),
    ("createTime", "2026-11-05T08:00:00.250Z"),
    ("duration", "600s"),
    ("userName", "enterprises/LC01bench/users/u1"),
];

/// `google.longrunning.Operation` without `error`, which no operation here has.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operation {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Any>,
    #[prost(bool, tag = "3")]
    done: bool,
    #[prost(message, optional, tag = "5")]
    response: Option<Any>,
}

/// The enterprise of all operations, except in the row with many credentials.
pub(crate) const ENTERPRISE: &str = "LC01bench";

/// The full name of an operation.
pub(crate) fn name(device: u64, operation: u64) -> String {
    name_in(ENTERPRISE, device, operation)
}

/// The full name of an operation of `enterprise`.
pub(crate) fn name_in(enterprise: &str, device: u64, operation: u64) -> String {
    format!("enterprises/{enterprise}/devices/d{device}/operations/{operation}")
}

/// The operation `name` in JSON, finished or pending.
pub(crate) fn json(name: &str, done: bool) -> String {
    static COMMAND_JSON: LazyLock<String> =
        LazyLock::new(|| COMMAND.map(|(key, value)| format!(r#""{key}":"{value}""#)).join(","));
    let command = &*COMMAND_JSON;
    let end = if done { format!(r#","done":true,"response":{{{command}}}"#) } else { String::new() };
    format!(r#"{{"name":"{name}","metadata":{{{command}}}{end}}}"#)
}

/// The same operation as a message.
pub(crate) fn message(name: String, done: bool) -> Operation {
    static COMMAND_ANY: LazyLock<Any> = LazyLock::new(|| {
        let fields = COMMAND
            .map(|(key, value)| (key.to_owned(), Value { kind: Some(Kind::StringValue(value.to_owned())) }));
        Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
            value: Struct { fields: fields.into() }.encode_to_vec(),
        }
    });
    let command = || COMMAND_ANY.clone();
    Operation { name, metadata: Some(command()), done, response: done.then(command) }
}

/// Whether `answer` is the encoded message of the operation `name`.
pub(crate) fn is(answer: &[u8], name: String, done: bool) -> bool {
    Operation::decode(answer).is_ok_and(|operation| operation == message(name, done))
}
