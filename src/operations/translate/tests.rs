use std::collections::BTreeMap;

use prost::Message;
use prost_types::{Any, Struct, value::Kind};
use serde_json::{Value, json};

use super::{Outcome, operation, page};
use crate::{
    amapi::{Json, error::Error},
    proto::longrunning::Operation,
};

fn object(json: Value) -> Json {
    match json {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn translated(json: Value) -> Operation {
    operation(object(json)).expect("an operation")
}

fn as_struct(any: &Any) -> BTreeMap<String, Option<Kind>> {
    assert_eq!(any.type_url, "type.googleapis.com/google.protobuf.Struct");
    let message = Struct::decode(&any.value[..]).expect("a Struct");
    message.fields.into_iter().map(|(name, value)| (name, value.kind)).collect()
}

fn text(text: &str) -> Option<Kind> {
    Some(Kind::StringValue(text.to_owned()))
}

const COMMAND: &str = "type.googleapis.com/google.android.devicemanagement.v1.Command";

#[test]
fn a_pending_command_keeps_every_member_of_its_metadata() {
    let operation = translated(json!({
        "name": "n",
        "metadata": {"@type": COMMAND, "type": "LOCK", "duration": "600s", "flag": null, "count": 3},
    }));
    assert_eq!((operation.name.as_str(), operation.done, &operation.result), ("n", false, &None));
    let metadata = as_struct(&operation.metadata.expect("metadata"));
    assert_eq!(metadata["@type"], text(COMMAND));
    assert_eq!(metadata["type"], text("LOCK"));
    assert_eq!(metadata["flag"], Some(Kind::NullValue(0)));
    assert_eq!(metadata["count"], Some(Kind::NumberValue(3.0)));
    assert_eq!(metadata.len(), 5);
}

#[test]
fn a_password_never_passes() {
    let operation = translated(json!({
        "metadata": {"@type": COMMAND, "newPassword": "s3cret", "list": [{"newPassword": {"a": "s3cret"}}]},
        "response": {"@type": COMMAND, "inner": {"newPassword": "s3cret"}},
        "done": true,
    }));
    let bytes = operation.encode_to_vec();
    assert!(!bytes.windows(6).any(|window| window == b"s3cret"));
    assert_eq!(as_struct(&operation.metadata.expect("metadata"))["newPassword"], text("[redacted]"));
}

#[test]
fn a_cancelled_command_is_an_error_of_code_1() {
    let detail = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "D"});
    let operation =
        translated(json!({"done": true, "error": {"code": 1, "message": "gone", "details": [detail]}}));
    let Some(Outcome::Error(status)) = operation.result else { panic!("an error") };
    assert_eq!((status.code, status.message.as_str()), (1, "gone"));
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.ErrorInfo");
}

#[test]
fn an_error_is_never_ok() {
    for error in [json!({}), json!({"code": 0}), json!({"code": null, "message": "?"})] {
        let operation = translated(json!({"done": true, "error": error}));
        let Some(Outcome::Error(status)) = operation.result else { panic!("an error") };
        assert_eq!(status.code, 2);
    }
}

#[test]
fn done_without_a_result_is_completed() {
    let operation = translated(json!({"done": true, "error": null}));
    let empty = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), value: Vec::new() };
    assert_eq!(operation.result, Some(Outcome::Response(empty)));
    assert_eq!(translated(json!({"done": false})).result, None);
}

#[test]
fn known_types_become_themselves() {
    let response = json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.5s"});
    let operation = translated(json!({"done": true, "response": response}));
    let Some(Outcome::Response(any)) = operation.result else { panic!("a response") };
    assert_eq!(any.type_url, "type.googleapis.com/google.protobuf.Duration");
    let duration = prost_types::Duration::decode(&any.value[..]).expect("a Duration");
    assert_eq!((duration.seconds, duration.nanos), (1, 500_000_000));
}

#[test]
fn a_page_has_its_parts() {
    let json =
        json!({"operations": [{"name": "a"}, {"name": "b"}], "nextPageToken": "t", "unreachable": ["u"]});
    let page = page(object(json)).expect("a page");
    assert_eq!(
        page.operations.iter().map(|operation| operation.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!((page.next_page_token.as_str(), page.unreachable), ("t", vec!["u".to_owned()]));
    assert_eq!(super::page(Json::new()).expect("an empty page").operations, []);
}

#[test]
fn what_has_not_the_apis_form_is_malformed() {
    for json in [
        json!({"name": 1}),
        json!({"done": "true"}),
        json!({"metadata": []}),
        json!({"error": "e"}),
        json!({"error": {"code": "1"}}),
        json!({"error": {"code": 99_999_999_999_u64}}),
        json!({"response": 1}),
    ] {
        let error = operation(object(json.clone())).expect_err("malformed");
        assert!(matches!(error, Error::Malformed { .. }), "{json}");
    }
    for json in [json!({"operations": {}}), json!({"operations": [1]}), json!({"unreachable": [1]})] {
        assert!(page(object(json.clone())).is_err(), "{json}");
    }
}
