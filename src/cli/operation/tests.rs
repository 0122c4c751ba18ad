//! The states of an operation and the block that is printed of it.

use tonic_types::pb;

use super::*;

fn metadata(members: &[(&str, &str)]) -> Any {
    let fields = members.iter().map(|(name, text)| {
        ((*name).to_owned(), prost_types::Value { kind: Some(Kind::StringValue((*text).to_owned())) })
    });
    let value = Struct { fields: fields.collect() }.encode_to_vec();
    Any { type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(), value }
}

fn ended(code: i32, message: &str) -> Operation {
    let status = pb::Status { code, message: message.to_owned(), details: Vec::new() };
    Operation { name: "n".to_owned(), done: true, result: Some(Ended::Error(status)), metadata: None }
}

#[test]
fn there_are_four_states() {
    let carried_out = Operation { result: Some(Ended::Response(Any::default())), ..ended(0, "") };
    let early = Operation { done: false, ..ended(4, "") };
    for (operation, state, word) in [
        (Operation::default(), State::Pending, "pending"),
        (early, State::Pending, "pending"),
        (carried_out, State::Done, "done"),
        (Operation { result: None, ..ended(0, "") }, State::Done, "done"),
        (ended(0, ""), State::Done, "done"),
        (ended(1, ""), State::Cancelled, "cancelled"),
        (ended(4, ""), State::Failed, "failed"),
        (ended(99, ""), State::Failed, "failed"),
    ] {
        assert_eq!((State::of(&operation), State::of(&operation).word()), (state, word), "{operation:?}");
    }
}

#[test]
fn a_block_has_what_is_known_and_no_more() {
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
fn metadata_that_is_no_command_is_passed_over() {
    let other = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), ..metadata(&[]) };
    let broken = Any { value: vec![0xff], ..metadata(&[]) };
    let mut number = Struct::default();
    number.fields.insert("type".to_owned(), prost_types::Value { kind: Some(Kind::NumberValue(1.0)) });
    let odd = Any { value: number.encode_to_vec(), ..metadata(&[]) };
    for metadata in [other, broken, odd] {
        let operation = Operation { metadata: Some(metadata), ..Operation::default() };
        assert_eq!(Command::of(&operation), Command::default(), "{operation:?}");
    }
}
