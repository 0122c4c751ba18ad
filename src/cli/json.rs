//! Protobuf as JSON, a line each (the JSON mapping of protobuf, ProtoJSON).

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::DynamicMessage;
use prost_types::Any;
use serde::Serialize;
use serde_json::{Value, json};
use tonic_types::pb;

use crate::proto::{
    DESCRIPTORS,
    longrunning::{Operation, operation::Result as Ended},
};

/// The members of `google.longrunning.Operation`; `done` is there even when it is false, for scripts.
#[derive(Serialize)]
struct Members<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Value>,
}

/// The members of `google.rpc.Status`.
#[derive(Serialize)]
struct Status<'a> {
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Value>,
}

/// An operation. Each `Any` is mapped by itself, so that one of an unknown type costs only itself.
pub(crate) fn operation(operation: &Operation) -> String {
    let Operation { name, metadata, done, result } = operation;
    let (error, response) = match result {
        None => (None, None),
        Some(Ended::Error(pb::Status { code, message, details })) => {
            (Some(Status { code: *code, message, details: details.iter().map(any).collect() }), None)
        }
        Some(Ended::Response(response)) => (None, Some(any(response))),
    };
    line(&Members { name, metadata: metadata.as_ref().map(any), done: *done, error, response })
}

/// A message of any type; one that cannot be read keeps its type and has its bytes in base64.
pub(crate) fn any(any: &Any) -> Value {
    DESCRIPTORS
        .get_message_by_name("google.protobuf.Any")
        .and_then(|descriptor| DynamicMessage::decode(descriptor, &*any.encode_to_vec()).ok())
        .and_then(|message| serde_json::to_value(message).ok())
        .unwrap_or_else(|| json!({"@type": any.type_url, "value": STANDARD.encode(&any.value)}))
}

/// One object, one line.
pub(crate) fn line(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("numbers, texts and values, under keys that are texts")
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, value::Kind};

    use super::*;

    fn parsed(of: &Operation) -> Value {
        serde_json::from_str(&operation(of)).unwrap()
    }

    fn structure(members: &[(&str, Kind)]) -> Any {
        let fields = members
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), prost_types::Value { kind: Some(kind.clone()) }));
        let value = Struct { fields: fields.collect() }.encode_to_vec();
        Any { type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(), value }
    }

    #[test]
    fn a_struct_in_any_has_its_members_under_value() {
        let metadata = structure(&[
            ("@type", Kind::StringValue("type.googleapis.com/acme.Command".to_owned())),
            ("n", Kind::NumberValue(1.5)),
            ("null", Kind::NullValue(0)),
        ]);
        let pending = Operation { name: "n".to_owned(), metadata: Some(metadata), ..Operation::default() };
        let metadata = json!({
            "@type": "type.googleapis.com/google.protobuf.Struct",
            "value": {"@type": "type.googleapis.com/acme.Command", "n": 1.5, "null": null},
        });
        assert_eq!(parsed(&pending), json!({"name": "n", "metadata": metadata, "done": false}));
    }

    #[test]
    fn an_end_is_an_error_or_a_response() {
        let empty = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), value: vec![] };
        let odd = Any { type_url: "type.googleapis.com/acme.Odd".to_owned(), value: b"hi".to_vec() };
        let ended = |result| Operation { done: true, result: Some(result), ..Operation::default() };
        assert_eq!(
            parsed(&ended(Ended::Response(empty.clone()))),
            json!({"name": "", "done": true, "response": {"@type": empty.type_url, "value": {}}})
        );
        let status = pb::Status { code: 1, message: "gone".to_owned(), details: vec![odd.clone()] };
        assert_eq!(
            parsed(&ended(Ended::Error(status))),
            json!({"name": "", "done": true, "error": {
                "code": 1,
                "message": "gone",
                "details": [{"@type": odd.type_url, "value": "aGk="}],
            }})
        );
    }

    #[test]
    fn what_no_json_can_hold_keeps_its_bytes() {
        let metadata = structure(&[("n", Kind::NumberValue(f64::NAN))]);
        let found = parsed(&Operation { metadata: Some(metadata.clone()), ..Operation::default() });
        assert_eq!(
            found["metadata"],
            json!({"@type": metadata.type_url, "value": STANDARD.encode(&metadata.value)})
        );
    }
}
