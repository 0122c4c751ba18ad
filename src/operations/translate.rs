//! Translates Google's JSON to the messages of the contract: operations, pages and error details.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage};
use prost_types::{Any, value::Kind};
use serde_json::Value;
use tonic::Code;
use tonic_types::pb;

use super::{json_struct, sensitive_members::redact};
use crate::{
    amapi::{Json, error::Error, google_error::type_name},
    proto::{
        DESCRIPTORS,
        longrunning::{ListOperationsResponse, Operation, operation::Result as Outcome},
    },
};

/// The host of the type URLs of `google.rpc` and `google.protobuf`.
const HOST: &str = "type.googleapis.com/";

/// Translates an operation: `{name, metadata, done, error, response}`.
///
/// `metadata` and `response` become `Any`, see [`typed`]. `done` with neither `error` nor `response` (seen on
/// WIPE) gets `google.protobuf.Empty`, because Google's clients raise an exception without a result.
///
/// # Errors
///
/// A member has a type that the API does not define for it.
pub(super) fn operation(mut json: Json) -> Result<Operation, Error> {
    let name = text(json.remove("name"))?;
    let done = flag(json.remove("done"))?;
    let metadata = any(json.remove("metadata"))?;
    let response = any(json.remove("response"))?;
    let result = match (object(json.remove("error"))?, response) {
        (Some(error), _) => Some(Outcome::Error(command_error(error)?)),
        (None, Some(response)) => Some(Outcome::Response(response)),
        (None, None) => done.then(|| Outcome::Response(pack("google.protobuf.Empty", &()))),
    };
    Ok(Operation { name, metadata, done, result })
}

/// Translates a page: `{operations, nextPageToken, unreachable}`. Operations for which `filter` is false are removed.
///
/// # Errors
///
/// A member has a type that the API does not define for it.
pub(super) fn page(mut json: Json, filter: impl Fn(&Json) -> bool) -> Result<ListOperationsResponse, Error> {
    let operations = list(json.remove("operations"))?.into_iter().filter_map(|item| {
        match object(Some(item)).and_then(|item| item.ok_or_else(malformed)) {
            Ok(item) => filter(&item).then(|| operation(item)),
            Err(error) => Some(Err(error)),
        }
    });
    let unreachable = list(json.remove("unreachable"))?.into_iter().map(|item| text(Some(item)));
    Ok(ListOperationsResponse {
        operations: operations.collect::<Result<_, _>>()?,
        next_page_token: text(json.remove("nextPageToken"))?,
        unreachable: unreachable.collect::<Result<_, _>>()?,
    })
}

/// The error of a command. A cancelled command has code 1 (CANCELLED). An error without a code becomes UNKNOWN,
/// because clients treat 0 as success.
fn command_error(mut json: Json) -> Result<pb::Status, Error> {
    let code = match json.remove("code") {
        None | Some(Value::Null) => None,
        Some(code) => Some(code.as_i64().and_then(|code| i32::try_from(code).ok()).ok_or_else(malformed)?),
    };
    Ok(pb::Status {
        code: code.filter(|code| *code != Code::Ok as i32).unwrap_or(Code::Unknown as i32),
        message: text(json.remove("message"))?,
        details: error_details(&list(json.remove("details"))?),
    })
}

/// Translates the details of an error in their order. An entry that is not an object is removed, because an `Any`
/// cannot represent it. `DebugInfo` is removed at any depth, because it describes Google's internals.
#[must_use]
pub(super) fn error_details(details: &[Value]) -> Vec<Any> {
    let kept = details.iter().filter(|detail| !is_debug_info(detail)).cloned();
    kept.filter_map(|mut detail| {
        remove_debug_info(&mut detail);
        typed(detail)
    })
    .collect()
}

/// Packs an object by its `@type`. `None` for other JSON.
///
/// A `google.rpc` or `google.protobuf` type becomes itself, without members that its proto lacks. Any other
/// type, and one whose JSON does not fit its proto, becomes `google.protobuf.Struct` with every member,
/// including `@type`: Google does not publish the protos of its Android types.
fn typed(mut json: Value) -> Option<Any> {
    redact(&mut json);
    let members = json.as_object()?;
    let as_struct = || pack("google.protobuf.Struct", &json_struct::from_object(members));
    Some(known_type(members).unwrap_or_else(as_struct))
}

/// Packs a type whose proto is public. `None` for any other type, and for JSON that does not fit the proto.
fn known_type(members: &Json) -> Option<Any> {
    let name = members.get("@type")?.as_str()?.strip_prefix(HOST)?;
    match name {
        // Google omits the `value` that the JSON mapping requires for a well-known type.
        "google.protobuf.Empty" => Some(pack(name, &())),
        // prost-reflect would round the numbers of the next three.
        "google.protobuf.Struct" => {
            Some(pack(name, &json_struct::from_object(members.get("value")?.as_object()?)))
        }
        "google.protobuf.Value" => Some(pack(name, &json_struct::from_value(members.get("value")?))),
        "google.protobuf.ListValue" => match json_struct::from_value(members.get("value")?).kind? {
            Kind::ListValue(list) => Some(pack(name, &list)),
            _ => None,
        },
        _ if name.starts_with("google.rpc.") || name.starts_with("google.protobuf.") => {
            let any = DESCRIPTORS.get_message_by_name("google.protobuf.Any")?;
            let options = DeserializeOptions::new().deny_unknown_fields(false);
            DynamicMessage::deserialize_with_options(any, members, &options).ok()?.transcode_to().ok()
        }
        _ => None,
    }
}

/// Packs a message under its full name.
pub(super) fn pack(full_name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("{HOST}{full_name}"), value: message.encode_to_vec() }
}

/// Whether `any` packs the type with this full name.
pub(super) fn is_type(any: &Any, full_name: &str) -> bool {
    any.type_url.strip_prefix(HOST) == Some(full_name)
}

fn is_debug_info(json: &Value) -> bool {
    type_name(json) == Some("google.rpc.DebugInfo")
}

fn remove_debug_info(json: &mut Value) {
    match json {
        Value::Object(members) => {
            members.retain(|_, member| !is_debug_info(member));
            members.values_mut().for_each(remove_debug_info);
        }
        Value::Array(items) => {
            items.retain(|item| !is_debug_info(item));
            items.iter_mut().for_each(remove_debug_info);
        }
        _ => {}
    }
}

fn any(json: Option<Value>) -> Result<Option<Any>, Error> {
    Ok(object(json)?.and_then(|members| typed(Value::Object(members))))
}

fn object(json: Option<Value>) -> Result<Option<Json>, Error> {
    match json {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(malformed()),
    }
}

fn list(json: Option<Value>) -> Result<Vec<Value>, Error> {
    match json {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(malformed()),
    }
}

fn text(json: Option<Value>) -> Result<String, Error> {
    match json {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(malformed()),
    }
}

fn flag(json: Option<Value>) -> Result<bool, Error> {
    match json {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(malformed()),
    }
}

fn malformed() -> Error {
    Error::Malformed { what: "an operation with a member of another type", http_status: 200 }
}

#[cfg(test)]
mod tests;
