//! The details of an error: Google's JSON → `google.protobuf.Any`.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage};
use prost_types::{Any, value::Kind};
use serde_json::{Map, Value};

use super::structs;
use crate::{amapi::google_error::type_name, proto::DESCRIPTORS};

/// The host of every type URL that we write, and of those that we know.
const HOST: &str = "type.googleapis.com/";

const DEBUG_INFO: &str = "google.rpc.DebugInfo";

/// Google's details, in their order.
///
/// A `google.rpc` or `google.protobuf` type becomes itself, without the members that its proto does not
/// have. Any other type, and one whose JSON does not fit its proto, becomes `google.protobuf.Struct` with
/// every member, `@type` too. An entry that is no object says nothing that an `Any` could hold and is left
/// out. So is `DebugInfo`, at any depth, since a `Struct` or a `Status` would carry it out as well; and a
/// `newPassword`, which RESET_PASSWORD carries in clear, is redacted.
#[must_use]
pub(super) fn from_json(details: &[Value]) -> Vec<Any> {
    details.iter().cloned().filter_map(without_internals).filter_map(packed).collect()
}

/// One JSON object of a type that it names, as for [`from_json`], but with all of its members.
pub(super) fn packed(json: Value) -> Option<Any> {
    let json = redacted(json);
    match &json {
        Value::Object(members) => Some(any(&json, members)),
        _ => None,
    }
}

/// Without the parameters of a command that are secret: RESET_PASSWORD carries `newPassword` in clear.
fn redacted(json: Value) -> Value {
    match json {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, member)| match name.as_str() {
                    "newPassword" => (name, Value::from("[redacted]")),
                    _ => (name, redacted(member)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(redacted).collect()),
        scalar => scalar,
    }
}

/// Packs a message of a full name.
pub(super) fn pack(full_name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("{HOST}{full_name}"), value: message.encode_to_vec() }
}

/// Whether it packs a message of a full name.
pub(super) fn is(any: &Any, full_name: &str) -> bool {
    any.type_url.strip_prefix(HOST) == Some(full_name)
}

fn without_internals(json: Value) -> Option<Value> {
    match json {
        Value::Object(_) if type_name(&json) == Some(DEBUG_INFO) => None,
        Value::Object(members) => Some(Value::Object(
            members
                .into_iter()
                .filter_map(|(name, member)| Some((name, without_internals(member)?)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_internals).collect())),
        scalar => Some(scalar),
    }
}

fn any(json: &Value, members: &Map<String, Value>) -> Any {
    known(json, members).unwrap_or_else(|| pack("google.protobuf.Struct", &structs::object(members)))
}

/// A type whose proto is public, as itself; `None` when it is not one, or its JSON does not fit.
fn known(json: &Value, members: &Map<String, Value>) -> Option<Any> {
    let name = members.get("@type")?.as_str()?.strip_prefix(HOST)?;
    match name {
        // Google writes it without the `value` that the JSON mapping wants of a well-known type.
        "google.protobuf.Empty" => Some(pack(name, &())),
        // These hold numbers, which only our own conversion keeps exact.
        "google.protobuf.Struct" => match members.get("value")? {
            Value::Object(value) => Some(pack(name, &structs::object(value))),
            _ => None,
        },
        "google.protobuf.Value" => Some(pack(name, &structs::value(members.get("value")?))),
        "google.protobuf.ListValue" => match structs::value(members.get("value")?).kind? {
            Kind::ListValue(list) => Some(pack(name, &list)),
            _ => None,
        },
        _ if name.starts_with("google.rpc.") || name.starts_with("google.protobuf.") => reflected(json),
        _ => None,
    }
}

/// By the JSON mapping of protobuf.
fn reflected(json: &Value) -> Option<Any> {
    let packed = DESCRIPTORS.get_message_by_name("google.protobuf.Any")?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(packed, json, &options).ok()?;
    message.transcode_to().ok()
}

#[cfg(test)]
mod tests;
