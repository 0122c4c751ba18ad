use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(body: &str) -> Option<GoogleError> {
    GoogleError::parse(body.as_bytes())
}

#[test]
fn a_complete_error_is_parsed() {
    let info = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NEW"});
    let body = json!({"error": {
        "code": 403, "message": "no", "status": "PERMISSION_DENIED", "details": [info],
        "errors": [{"reason": "old", "domain": "global", "message": "no"}],
    }});
    let error = parse(&body.to_string()).unwrap();
    assert_eq!(error.status.as_deref(), Some("PERMISSION_DENIED"));
    assert_eq!(error.message.as_deref(), Some("no"));
    assert_eq!(error.reasons, ["NEW", "old"]);
    assert_eq!(error.details, [info]);
}

#[test]
fn one_valid_member_is_enough() {
    for body in [
        r#"{"error":{"code":404}}"#,
        r#"{"error":{"code":"404"}}"#,
        r#"{"error":{"status":"NOT_FOUND"}}"#,
        r#"{"error":{"message":"gone","code":[],"status":7,"details":{},"errors":"x"}}"#,
        r#"{"error":{"details":[null, 1, "x", {}, []]}}"#,
        r#"{"error":{"errors":[{"reason":"quotaExceeded"}, 3]}, "more": true}"#,
        r#" [{"error":{"code":404}}, {"error":{"code":500}}] "#,
    ] {
        assert!(parse(body).is_some(), "{body}");
    }
}

#[test]
fn a_body_that_is_not_googles_is_none() {
    let deep = format!(r#"{{"error":{{"code":500,"details":[{}{}]}}}}"#, "[".repeat(200), "]".repeat(200));
    for body in [
        "",
        "<html><title>502 Bad Gateway</title></html>",
        "null",
        "[]",
        "[[]]",
        "{}",
        r#"{"error":"invalid_grant","error_description":"Bad"}"#,
        r#"{"error":null}"#,
        r#"{"error":{}}"#,
        r#"{"error":{"code":null,"message":"","status":"","details":[]}}"#,
        r#"{"error":{"code":"twelve","other":"x"}}"#,
        r#"{"error":{"code":404}"#,
        r#"{"error":{"code":404}} trailing"#,
        r#"{"error":{"message":"\ud800"}}"#,
        &deep,
    ] {
        assert_eq!(parse(body), None, "{body}");
    }
    assert_eq!(GoogleError::parse(b"{\"error\":{\"message\":\"\xff\"}}"), None);
}

#[test]
fn the_display_is_one_short_line() {
    let error = GoogleError {
        status: Some("A\nB".to_owned()),
        message: Some(format!("\u{1b}[31m\r\n{}", "é".repeat(5000))),
        reasons: vec!["R".repeat(500); 100],
        details: vec![json!({"secret": "in the details"})],
    };
    let line = error.to_string();
    assert!(line.starts_with(r"A\nB, reason RRR"), "{line}");
    assert!(line.contains(r": \u{1b}[31m\r\né"), "{line}");
    assert!(!line.contains("secret"), "{line}");
    assert!(!line.contains(char::is_control), "{line}");
    assert!(line.chars().count() < 1000, "{line}");
}

proptest! {
    #[test]
    fn no_body_causes_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(error) = GoogleError::parse(&body) {
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn any_message_is_parsed_and_displayed_on_one_line(message in "\\PC{1,40}|[\\x00-\\x1f]{1,9}") {
        let body = json!({"error": {"message": message}}).to_string();
        let error = parse(&body).unwrap();
        prop_assert_eq!(error.message.as_deref(), Some(message.as_str()));
        prop_assert!(!error.to_string().contains(char::is_control));
    }
}
