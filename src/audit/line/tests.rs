use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    caller::{Caller, Claims},
    flight::Flight,
    trace_id::TraceParent,
};

fn arrival(method: Method) -> Arrival {
    let trace_id = TraceParent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .expect("valid")
        .trace_id;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
    Arrival { method, trace_id, time, since: Instant::now() }
}

/// The line, parsed, without its duration.
fn parsed(record: &Record, method: Method, code: &'static str) -> Value {
    let line = arrival(method).line(record, code).expect("the first line");
    let mut line: Value = serde_json::from_slice(&line).expect("JSON");
    assert!(line.as_object_mut().expect("an object").remove("duration_ms").expect("a duration").is_number());
    line
}

#[test]
fn a_line_has_all_facts() {
    let record = Record::default();
    record.set_caller(&Caller::unix(1000));
    record.set_name("enterprises/LC01/devices/d1/operations/17".to_owned());
    record.allowed(&Arc::from(["console".to_owned(), "all".to_owned()]), None);
    let flight = Flight::new(Instant::now());
    let _member = record.joined(&flight, true);
    flight.use_credential(&Arc::from("emea"));
    flight.sent();
    flight.sent();
    flight.responded(404);
    let want = json!({
        "time": "2023-11-14T22:13:20.007Z",
        "caller": "unix:1000",
        "proof": "unix-peer",
        "method": "CancelOperation",
        "name": "enterprises/LC01/devices/d1/operations/17",
        "decision": "allow",
        "policies": ["console", "all"],
        "code": "NOT_FOUND",
        "upstream_status": 404,
        "attempts": 2,
        "shared": true,
        "credential": "emea",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    });
    assert_eq!(parsed(&record, Method::Cancel, "NOT_FOUND"), want);
}

#[test]
fn facts_that_do_not_apply_are_absent() {
    let want = json!({
        "time": "2023-11-14T22:13:20.007Z",
        "method": "WaitOperation",
        "code": "UNAVAILABLE",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    });
    assert_eq!(parsed(&Record::default(), Method::Wait, "UNAVAILABLE"), want);
}

#[test]
fn the_line_of_an_upstream_call_in_flight_has_the_sent_requests() {
    let flight = Flight::new(Instant::now());
    let record = Record::default();
    let _member = record.joined(&flight, true);
    flight.use_credential(&Arc::from("emea"));
    flight.sent();
    flight.sent();
    let line = parsed(&record, Method::Cancel, "DEADLINE_EXCEEDED");
    let sent = (&line["attempts"], &line["credential"], &line["shared"], line.get("upstream_status"));
    assert_eq!(sent, (&json!(2), &json!("emea"), &json!(true), None));
}

#[test]
fn a_denial_names_the_policies_that_forbid_it() {
    let record = Record::default();
    record.denied(Some(&Arc::from(["no-wipes".to_owned()])));
    let line = parsed(&record, Method::Cancel, "PERMISSION_DENIED");
    assert_eq!((&line["decision"], &line["policies"]), (&json!("deny"), &json!(["no-wipes"])));
    // No policy permits the call.
    let record = Record::default();
    record.denied(Some(&Arc::default()));
    let line = parsed(&record, Method::Cancel, "PERMISSION_DENIED");
    assert_eq!((&line["decision"], line.get("policies")), (&json!("deny"), None));
}

#[test]
fn the_decision_of_a_policy_in_shadow_mode_is_a_boolean() {
    for would_deny in [true, false] {
        let record = Record::default();
        record.allowed(&Arc::from(["no-wipes".to_owned()]), Some(would_deny));
        let line = parsed(&record, Method::Cancel, "OK");
        assert_eq!((&line["decision"], &line["policies"]), (&json!("allow"), &json!(["no-wipes"])));
        assert_eq!(line["would_deny"], would_deny);
    }
}

#[test]
fn a_call_has_one_line() {
    let record = Record::default();
    assert!(arrival(Method::Get).line(&record, "OK").is_some());
    record.invalid();
    assert!(arrival(Method::Get).line(&record, "OK").is_none());
}

#[test]
fn no_text_of_a_caller_ends_the_line_or_changes_another_field() {
    for name in [
        "a\nb",
        "a\r\nb",
        "\u{2028}\u{2029}\u{85}\u{b}\u{c}\u{1c}\u{1d}\u{1e}",
        "\",\"decision\":\"allow\",\"x\":\"",
        "\\\",\\",
        "\0\u{7f}\u{9b}31m\u{1b}[2J",
        "\u{202e}evil\u{feff}\u{200b}",
        "ä😀\u{10ffff}",
    ] {
        let record = Record::default();
        record.set_caller(&Caller::of_token("i".to_owned(), name.to_owned(), Claims::new()));
        record.set_name(name.to_owned());
        record.invalid();
        let line = arrival(Method::Delete).line(&record, "UNIMPLEMENTED").expect("the first line");
        let (end, text) = line.split_last().expect("not empty");
        assert_eq!(*end, b'\n');
        let is_printable = |byte: &u8| (b' '..=b'~').contains(byte);
        assert!(text.iter().all(is_printable), "{}", text.escape_ascii());
        let parsed: Value = serde_json::from_slice(text).expect("JSON");
        assert_eq!((&parsed["name"], &parsed["decision"]), (&json!(name), &json!("invalid")));
        assert_eq!(parsed["caller"], json!(format!("jwt:i#{name}")));
    }
}

#[test]
fn a_long_name_is_cut_between_characters() {
    let record = Record::default();
    record.set_name(format!("x{}", "ä".repeat(60_000)));
    let name = parsed(&record, Method::Get, "INVALID_ARGUMENT")["name"].clone();
    assert_eq!(name, json!(format!("x{}", "ä".repeat(511))));
}

#[test]
fn a_time_out_of_range_becomes_the_nearest_valid_one() {
    let far = Duration::from_secs(1 << 40);
    for (time, want) in [
        (SystemTime::UNIX_EPOCH - far, "1970-01-01T00:00:00.000Z"),
        (SystemTime::UNIX_EPOCH + far, "9999-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(timestamp(time).to_string(), want);
    }
}

#[test]
fn a_duration_is_in_milliseconds_with_a_fraction() {
    for (nanos, want) in [(0, "0.000"), (1_234_567, "1.234"), (60_000_020_000, "60000.020")] {
        let mut object = Object::new();
        object.thousandths("duration_ms", micros(Duration::from_nanos(nanos)));
        assert_eq!(object.line(), format!("{{\"duration_ms\":{want}}}\n").into_bytes());
    }
}
