//! A pending operation as AMAPI's JSON and as the gRPC message. Neither uses Countermand's code, so that an error
//! there is detected.

use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};

/// The enterprise of all operations, except in the row with many credentials. It is the account of its credential too.
pub(crate) const ENTERPRISE: &str = "LC01bench";

/// Members of AMAPI's type `Command` (`enterprises.devices.issueCommand`). Google publishes no proto for it, so
/// `@type` stays a member.
const COMMAND: [(&str, &str); 5] = [
    ("@type", "type.googleapis.com/google.android.devicemanagement.v1.Command"),
    ("type", "LOCK"),
    ("createTime", "2026-11-05T08:00:00.250Z"),
    ("duration", "600s"),
    ("userName", "enterprises/LC01bench/users/u1"),
];

/// `google.longrunning.Operation` without `error` and `response`, which no operation here has.
#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Any>,
    #[prost(bool, tag = "3")]
    done: bool,
}

/// The full name of an operation of `enterprise`.
pub(crate) fn name(enterprise: &str, device: u64, operation: u64) -> String {
    format!("enterprises/{enterprise}/devices/d{device}/operations/{operation}")
}

/// The operation `name` in JSON.
pub(crate) fn json(name: &str) -> String {
    let command = COMMAND.map(|(key, value)| format!(r#""{key}":"{value}""#)).join(",");
    format!(r#"{{"name":"{name}","metadata":{{{command}}}}}"#)
}

/// Whether `message` is the encoded operation `name`.
pub(crate) fn is(message: &[u8], name: &str) -> bool {
    let string = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
    let fields = COMMAND.map(|(key, value)| (key.to_owned(), string(value))).into();
    let type_url = "type.googleapis.com/google.protobuf.Struct".to_owned();
    let metadata = Some(Any { type_url, value: Struct { fields }.encode_to_vec() });
    Operation::decode(message)
        .is_ok_and(|found| found == Operation { name: name.to_owned(), metadata, done: false })
}
