use std::collections::BTreeMap;

use prost::Message;
use prost_types::{Any, Struct, Value as ProtoValue, value::Kind};
use serde_json::{Value, json};
use tonic_types::pb;

use super::{Outcome, error_details, operation, pack, page};
use crate::{
    amapi::{Json, error::Error},
    proto::longrunning::Operation,
};

fn object(json: Value) -> Json {
    match json {
        Value::Object(members) => members,
        other => panic!("{other} is not an object"),
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
fn passwords_are_redacted() {
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
fn the_code_of_an_error_is_never_ok() {
    for error in [json!({}), json!({"code": 0}), json!({"code": null, "message": "?"})] {
        let operation = translated(json!({"done": true, "error": error}));
        let Some(Outcome::Error(status)) = operation.result else { panic!("an error") };
        assert_eq!(status.code, 2);
    }
}

#[test]
fn done_without_a_result_gets_an_empty_response() {
    let operation = translated(json!({"done": true, "error": null}));
    let empty = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), value: Vec::new() };
    assert_eq!(operation.result, Some(Outcome::Response(empty)));
    assert_eq!(translated(json!({"done": false})).result, None);
}

#[test]
fn a_response_of_a_known_type_becomes_itself() {
    let response = json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.5s"});
    let operation = translated(json!({"done": true, "response": response}));
    let Some(Outcome::Response(any)) = operation.result else { panic!("a response") };
    assert_eq!(any.type_url, "type.googleapis.com/google.protobuf.Duration");
    let duration = prost_types::Duration::decode(&any.value[..]).expect("a Duration");
    assert_eq!((duration.seconds, duration.nanos), (1, 500_000_000));
}

#[test]
fn a_page_keeps_all_members() {
    let json =
        json!({"operations": [{"name": "a"}, {"name": "b"}], "nextPageToken": "t", "unreachable": ["u"]});
    let page = page(object(json), |_| true).expect("a page");
    assert_eq!(
        page.operations.iter().map(|operation| operation.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!((page.next_page_token.as_str(), page.unreachable), ("t", vec!["u".to_owned()]));
    assert_eq!(super::page(Json::new(), |_| true).expect("an empty page").operations, []);
}

#[test]
fn members_of_another_type_are_malformed() {
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
        assert!(page(object(json.clone()), |_| true).is_err(), "{json}");
    }
}

fn details_of(detail: Value) -> Vec<Any> {
    error_details(&[detail])
}

fn struct_of(fields: &[(&str, Kind)]) -> Any {
    let fields = fields.iter().map(|(name, kind)| {
        let kind = Some(kind.clone());
        ((*name).to_owned(), ProtoValue { kind })
    });
    let message = Struct { fields: fields.collect() };
    Any { type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(), value: message.encode_to_vec() }
}

fn string(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

/// Each type of `google.rpc` with all members, and the message that it becomes.
#[test]
fn every_google_rpc_type_becomes_itself() {
    let s = str::to_owned;
    let quota = pb::quota_failure::Violation {
        subject: s("project:1"),
        description: s("d"),
        api_service: s("a"),
        quota_metric: s("m"),
        quota_id: s("i"),
        quota_dimensions: [(s("region"), s("eu"))].into(),
        quota_value: 1000,
        future_quota_value: Some(2000),
    };
    let precondition =
        pb::precondition_failure::Violation { r#type: s("T"), subject: s("s"), description: s("d") };
    let field = pb::bad_request::FieldViolation {
        field: s("name"),
        description: s("d"),
        reason: s("R"),
        localized_message: Some(pb::LocalizedMessage { locale: s("en-US"), message: s("m") }),
    };
    let link = pb::help::Link { description: s("d"), url: s("https://u.example") };
    let retry_delay = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
    let table = [
        (
            json!({"reason": "R", "domain": "d", "metadata": {"k": "v"}}),
            pack(
                "google.rpc.ErrorInfo",
                &pb::ErrorInfo { reason: s("R"), domain: s("d"), metadata: [(s("k"), s("v"))].into() },
            ),
        ),
        (
            json!({"retryDelay": "1.5s"}),
            pack("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(retry_delay) }),
        ),
        (
            json!({"violations": [{
                "subject": "project:1", "description": "d", "apiService": "a", "quotaMetric": "m",
                "quotaId": "i", "quotaDimensions": {"region": "eu"}, "quotaValue": "1000",
                "futureQuotaValue": "2000",
            }]}),
            pack("google.rpc.QuotaFailure", &pb::QuotaFailure { violations: vec![quota] }),
        ),
        (
            json!({"violations": [{"type": "T", "subject": "s", "description": "d"}]}),
            pack(
                "google.rpc.PreconditionFailure",
                &pb::PreconditionFailure { violations: vec![precondition] },
            ),
        ),
        (
            json!({"fieldViolations": [{
                "field": "name", "description": "d", "reason": "R",
                "localizedMessage": {"locale": "en-US", "message": "m"},
            }]}),
            pack("google.rpc.BadRequest", &pb::BadRequest { field_violations: vec![field] }),
        ),
        (
            json!({"requestId": "r", "servingData": "s"}),
            pack("google.rpc.RequestInfo", &pb::RequestInfo { request_id: s("r"), serving_data: s("s") }),
        ),
        (
            json!({"resourceType": "t", "resourceName": "n", "owner": "o", "description": "d"}),
            pack(
                "google.rpc.ResourceInfo",
                &pb::ResourceInfo {
                    resource_type: s("t"),
                    resource_name: s("n"),
                    owner: s("o"),
                    description: s("d"),
                },
            ),
        ),
        (
            json!({"links": [{"description": "d", "url": "https://u.example"}]}),
            pack("google.rpc.Help", &pb::Help { links: vec![link] }),
        ),
        (
            json!({"locale": "en-US", "message": "m"}),
            pack(
                "google.rpc.LocalizedMessage",
                &pb::LocalizedMessage { locale: s("en-US"), message: s("m") },
            ),
        ),
    ];
    for (mut json, want) in table {
        json["@type"] = Value::from(want.type_url.clone());
        assert_eq!(details_of(json.clone()), std::slice::from_ref(&want), "{json}");
        // Members of a newer proto are removed.
        json["addedLater"] = json!({"x": [1]});
        assert_eq!(details_of(json.clone()), [want], "{json}");
    }
}

#[test]
fn google_protobuf_types_become_themselves() {
    let url = |name: &str| format!("type.googleapis.com/google.protobuf.{name}");
    let any = |name: &str, value: &[u8]| Any { type_url: url(name), value: value.to_vec() };
    for (json, want) in [
        (json!({"@type": url("Empty")}), any("Empty", b"")),
        (json!({"@type": url("Empty"), "value": {}}), any("Empty", b"")),
        (json!({"@type": url("Duration"), "value": "3s"}), any("Duration", b"\x08\x03")),
        (json!({"@type": url("StringValue"), "value": "x"}), any("StringValue", b"\x0a\x01x")),
        (json!({"@type": url("Value"), "value": true}), any("Value", b"\x20\x01")),
        (json!({"@type": url("ListValue"), "value": [true]}), any("ListValue", b"\x0a\x02\x20\x01")),
    ] {
        assert_eq!(details_of(json.clone()), [want], "{json}");
    }
    let json = json!({"@type": url("Struct"), "value": {"id": 9_007_199_254_740_993_u64}});
    assert_eq!(details_of(json), [struct_of(&[("id", string("9007199254740993"))])]);
}

#[test]
fn other_types_and_json_that_does_not_fit_become_structs() {
    let android = "type.googleapis.com/google.android.devicemanagement.v1.Problem";
    let info = "type.googleapis.com/google.rpc.ErrorInfo";
    for (json, want) in [
        (
            json!({"@type": android, "n": 1}),
            struct_of(&[("@type", string(android)), ("n", Kind::NumberValue(1.0))]),
        ),
        (
            json!({"@type": info, "reason": 7}),
            struct_of(&[("@type", string(info)), ("reason", Kind::NumberValue(7.0))]),
        ),
        (
            json!({"@type": "example.com/google.rpc.Help"}),
            struct_of(&[("@type", string("example.com/google.rpc.Help"))]),
        ),
        (
            json!({"@type": "type.googleapis.com/google.rpc.AddedLater"}),
            struct_of(&[("@type", string("type.googleapis.com/google.rpc.AddedLater"))]),
        ),
        (json!({"@type": 5}), struct_of(&[("@type", Kind::NumberValue(5.0))])),
        (json!({}), struct_of(&[])),
    ] {
        assert_eq!(details_of(json.clone()), [want], "{json}");
    }
    for json in [json!(null), json!("x"), json!(1), json!([{"@type": info}])] {
        assert_eq!(details_of(json.clone()), [], "{json}");
    }
}

#[test]
fn details_have_no_debug_info_and_no_password() {
    let debug = json!({"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "internals"});
    assert_eq!(details_of(debug.clone()), []);
    assert_eq!(details_of(json!({"@type": "google.rpc.DebugInfo", "detail": "internals"})), []);
    let status = json!({
        "@type": "type.googleapis.com/google.rpc.Status", "code": 5, "details": [debug],
    });
    let want = pb::Status { code: 5, ..Default::default() };
    assert_eq!(details_of(status), [pack("google.rpc.Status", &want)]);
    let unknown = json!({"@type": "x/y", "a": {"cause": debug, "newPassword": {"v": "hunter2"}}});
    let inner = Struct {
        fields: [("newPassword".to_owned(), ProtoValue { kind: Some(string("[redacted]")) })].into(),
    };
    let want = struct_of(&[("@type", string("x/y")), ("a", Kind::StructValue(inner))]);
    assert_eq!(details_of(unknown), [want]);
}
