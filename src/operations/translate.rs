//! Google's JSON → the contract's messages.

use prost_types::Any;
use serde_json::Value;
use tonic::Code;
use tonic_types::pb::Status;

use super::details;
use crate::{
    amapi::{Json, error::Error},
    proto::longrunning::{ListOperationsResponse, Operation, operation::Result as Outcome},
};

/// An operation: `{name, metadata, done, error, response}`.
///
/// `metadata` and `response` are of types whose protos Google does not publish: each becomes
/// `google.protobuf.Struct` in `Any` with every member, `@type` too; `google.rpc` and `google.protobuf`
/// types become themselves. `done` with neither `error` nor `response` (seen on WIPE) gets
/// `google.protobuf.Empty`, since Google's clients raise without a result.
///
/// # Errors
///
/// A member has a type that the API does not give it.
pub(super) fn operation(mut json: Json) -> Result<Operation, Error> {
    let name = text(json.remove("name"))?;
    let done = flag(json.remove("done"))?;
    let metadata = any(json.remove("metadata"))?;
    let response = any(json.remove("response"))?;
    let result = match (object(json.remove("error"))?, response) {
        (Some(error), _) => Some(Outcome::Error(status(error)?)),
        (None, Some(response)) => Some(Outcome::Response(response)),
        (None, None) => done.then(|| Outcome::Response(details::pack("google.protobuf.Empty", &()))),
    };
    Ok(Operation { name, metadata, done, result })
}

/// A page: `{operations, nextPageToken, unreachable}`.
///
/// # Errors
///
/// A member has a type that the API does not give it.
pub(super) fn page(mut json: Json) -> Result<ListOperationsResponse, Error> {
    let operations = list(json.remove("operations"))?.into_iter().map(|item| {
        let item = object(Some(item))?.ok_or_else(malformed)?;
        operation(item)
    });
    let unreachable = list(json.remove("unreachable"))?.into_iter().map(|item| text(Some(item)));
    Ok(ListOperationsResponse {
        operations: operations.collect::<Result<_, _>>()?,
        next_page_token: text(json.remove("nextPageToken"))?,
        unreachable: unreachable.collect::<Result<_, _>>()?,
    })
}

/// How a command ended. A cancelled one has code 1 (CANCELLED). An error without a code, which a reader
/// would take for success, is UNKNOWN.
fn status(mut json: Json) -> Result<Status, Error> {
    let code = match json.remove("code") {
        None | Some(Value::Null) => None,
        Some(code) => Some(code.as_i64().and_then(|code| i32::try_from(code).ok()).ok_or_else(malformed)?),
    };
    Ok(Status {
        code: code.filter(|code| *code != Code::Ok as i32).unwrap_or(Code::Unknown as i32),
        message: text(json.remove("message"))?,
        details: details::from_json(&list(json.remove("details"))?),
    })
}

fn any(json: Option<Value>) -> Result<Option<Any>, Error> {
    Ok(object(json)?.and_then(|members| details::packed(Value::Object(members))))
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
    Error::Malformed { what: "an operation that has not the API's form", http_status: 200 }
}

#[cfg(test)]
mod tests;
