//! An operation's state, text block and JSON.

use tonic_types::pb;

use super::*;

fn structure(members: &[(&str, Kind)]) -> Any {
    let fields = members
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), prost_types::Value { kind: Some(kind.clone()) }));
    let value = Struct { fields: fields.collect() }.encode_to_vec();
    Any { type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(), value }
}

fn metadata(members: &[(&str, &str)]) -> Any {
    structure(
        &members
            .iter()
            .map(|(name, text)| (*name, Kind::StringValue((*text).to_owned())))
            .collect::<Vec<_>>(),
    )
}

fn ended(code: i32, message: &str) -> Operation {
    let status = pb::Status { code, message: message.to_owned(), details: Vec::new() };
    Operation { name: "n".to_owned(), done: true, result: Some(Outcome::Error(status)), metadata: None }
}

#[test]
fn there_are_four_states() {
    let executed = Operation { result: Some(Outcome::Response(Any::default())), ..ended(0, "") };
    let early = Operation { done: false, ..ended(4, "") };
    for (operation, state, word) in [
        (Operation::default(), OperationState::Pending, "pending"),
        (early, OperationState::Pending, "pending"),
        (executed, OperationState::Done, "done"),
        (Operation { result: None, ..ended(0, "") }, OperationState::Done, "done"),
        (ended(0, ""), OperationState::Done, "done"),
        (ended(1, ""), OperationState::Cancelled, "cancelled"),
        (ended(4, ""), OperationState::Failed, "failed"),
        (ended(99, ""), OperationState::Failed, "failed"),
    ] {
        assert_eq!(
            (OperationState::of(&operation), OperationState::of(&operation).word()),
            (state, word),
            "{operation:?}"
        );
    }
}

#[test]
fn a_block_has_no_line_for_an_absent_member() {
    let command = [
        ("type", "LOCK"),
        ("createTime", "2026-01-02T03:04:05Z"),
        ("duration", "600s"),
        ("errorCode", "UNSUPPORTED"),
    ];
    let whole = Operation { metadata: Some(metadata(&command)), ..ended(9, "no such thing") };
    assert_eq!(
        block(&whole),
        [
            "name:      n",
            "state:     failed",
            "type:      LOCK",
            "created:   2026-01-02T03:04:05Z",
            "duration:  600s",
            "error:     FAILED_PRECONDITION: no such thing",
            "on device: UNSUPPORTED",
        ]
    );
    assert_eq!(block(&ended(1, "")), ["name:      n", "state:     cancelled", "error:     CANCELLED"]);
}

#[test]
fn metadata_that_is_not_a_command_is_ignored() {
    let other = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), ..metadata(&[]) };
    let broken = Any { value: vec![0xff], ..metadata(&[]) };
    let mut number = Struct::default();
    number.fields.insert("type".to_owned(), prost_types::Value { kind: Some(Kind::NumberValue(1.0)) });
    let odd = Any { value: number.encode_to_vec(), ..metadata(&[]) };
    for metadata in [other, broken, odd] {
        let operation = Operation { metadata: Some(metadata), ..Operation::default() };
        assert_eq!(CommandMetadata::of(&operation), CommandMetadata::default(), "{operation:?}");
    }
}

fn parsed(of: &Operation) -> Value {
    serde_json::from_str(&super::json(of)).unwrap()
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
fn a_result_is_an_error_or_a_response() {
    let empty = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), value: vec![] };
    let odd = Any { type_url: "type.googleapis.com/acme.Odd".to_owned(), value: b"hi".to_vec() };
    let ended = |result| Operation { done: true, result: Some(result), ..Operation::default() };
    assert_eq!(
        parsed(&ended(Outcome::Response(empty.clone()))),
        json!({"name": "", "done": true, "response": {"@type": empty.type_url, "value": {}}})
    );
    let status = pb::Status { code: 1, message: "gone".to_owned(), details: vec![odd.clone()] };
    assert_eq!(
        parsed(&ended(Outcome::Error(status))),
        json!({"name": "", "done": true, "error": {
            "code": 1,
            "message": "gone",
            "details": [{"@type": odd.type_url, "value": "aGk="}],
        }})
    );
}

#[test]
fn a_value_that_json_cannot_represent_keeps_its_bytes() {
    let metadata = structure(&[("n", Kind::NumberValue(f64::NAN))]);
    let found = parsed(&Operation { metadata: Some(metadata.clone()), ..Operation::default() });
    assert_eq!(
        found["metadata"],
        json!({"@type": metadata.type_url, "value": STANDARD.encode(&metadata.value)})
    );
}
