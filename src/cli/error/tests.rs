//! A status as one line and as JSON.

use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

use super::{json as to_object, line};
use crate::{amapi::error::Error, cli::output::printable, operations::status::from_upstream};

fn parsed(status: &Status) -> Value {
    serde_json::from_str(&to_object("n", Some(status))).unwrap()
}

#[test]
fn a_line_has_the_code_the_message_and_the_hints() {
    let mut details = ErrorDetails::new();
    details.set_error_info("RATE_LIMIT_EXCEEDED", "androidmanagement.googleapis.com", []);
    details.set_retry_info(Some(Duration::from_millis(1_500)));
    details.add_bad_request_violation("name", "not a name");
    let status = Status::with_error_details(Code::ResourceExhausted, "Quota exceeded", details);
    assert_eq!(
        line(&status),
        "RESOURCE_EXHAUSTED: Quota exceeded (reason RATE_LIMIT_EXCEEDED of \
         androidmanagement.googleapis.com; retry in 1s 500ms; name: not a name)"
    );
    assert_eq!(line(&Status::new(Code::DataLoss, "")), "DATA_LOSS");
}

#[test]
fn a_line_names_the_project_whose_quota_is_spent() {
    let error = Error::QuotaBudget { retry_after: Duration::from_micros(2_300_001), project: "mdm-1".into() };
    assert_eq!(
        line(&from_upstream(&error)),
        "RESOURCE_EXHAUSTED: the proxy did not send the call, because the quota of the Google project has no query for it \
         before the deadline (reason QUOTA_BUDGET of countermand; retry in 2s 301ms; project:mdm-1: the queries until the \
         deadline are for calls that came earlier or are more important)"
    );
}

#[test]
fn a_violation_that_the_message_contains_is_not_repeated() {
    let mut details = ErrorDetails::new();
    details.set_error_info("INVALID_NAME", "countermand", []);
    details.add_bad_request_violation("name", "has no device");
    let status = Status::with_error_details(Code::InvalidArgument, "name: has no device", details);
    assert_eq!(line(&status), "INVALID_ARGUMENT: name: has no device (reason INVALID_NAME of countermand)");
}

#[test]
fn json_has_each_detail_in_protobufs_json_mapping() {
    let mut details = ErrorDetails::new();
    details.set_error_info("NOPE", "countermand", [("k".to_owned(), "v".to_owned())]);
    details.set_retry_info(Some(Duration::from_secs(5)));
    let status = Status::with_error_details(Code::NotFound, "gone", details);
    let retry = "type.googleapis.com/google.rpc.RetryInfo";
    let info = "type.googleapis.com/google.rpc.ErrorInfo";
    let found = parsed(&status);
    assert_eq!(found["name"], "n");
    assert_eq!(found["code"], "NOT_FOUND");
    assert_eq!(found["message"], "gone");
    let found = found["details"].as_array().unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&json!({"@type": retry, "retryDelay": "5s"})), "{found:?}");
    assert!(
        found.contains(
            &json!({"@type": info, "reason": "NOPE", "domain": "countermand", "metadata": {"k": "v"}})
        ),
        "{found:?}"
    );
}

#[test]
fn json_keeps_the_bytes_of_an_undecodable_detail() {
    let any = |type_url: &str, value: &[u8]| prost_types::Any {
        type_url: type_url.to_owned(),
        value: value.to_vec(),
    };
    let unknown = any("type.googleapis.com/acme.Secret", b"hi");
    let broken = any("type.googleapis.com/google.rpc.RetryInfo", &[0xff]);
    let rpc = pb::Status { code: 5, message: String::new(), details: vec![unknown, broken] };
    let status = Status::with_details(Code::NotFound, "", rpc.encode_to_vec().into());
    assert_eq!(
        parsed(&status)["details"],
        json!([
            {"@type": "type.googleapis.com/acme.Secret", "value": "aGk="},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "value": "/w=="},
        ])
    );
    let garbage = Status::with_details(Code::NotFound, "", vec![0xff].into());
    assert_eq!(parsed(&garbage)["undecodable_details"], "/w==");
}

#[test]
fn control_characters_of_a_server_are_escaped() {
    let hostile = "a\u{1b}[2J\r\n\u{7f}\u{9b}31m\u{202e}b\u{feff}\tc ä 漢";
    let shown = printable(hostile);
    assert_eq!(shown, "a\\u001b[2J\\u000d\\n\\u007f\\u009b31m\\u202eb\\ufeff\\tc ä 漢");
    // In JSON, the escapes mean the same text.
    let status = Status::new(Code::Internal, hostile);
    let shown = printable(&to_object("n", Some(&status)));
    assert!(!shown.chars().any(char::is_control), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["message"], hostile);
}
