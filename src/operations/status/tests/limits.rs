//! Whatever comes from upstream, the status is an error, of one `ErrorInfo`, and fits on the wire.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn check(error: &Error) -> Result<pb::Status, TestCaseError> {
    let status = from_upstream(error);
    prop_assert_ne!(status.code(), Code::Ok);
    prop_assert!(status.message().len() <= 1024);

    let inner = pb::Status::decode(status.details()).unwrap();
    prop_assert_eq!(inner.code, status.code() as i32);
    prop_assert_eq!(&inner.message, status.message());
    prop_assert_eq!(inner.details.iter().filter(|any| is_error_info(any)).count(), 1);

    let response: http::Response<()> = status.into_http();
    let size: usize =
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    prop_assert!(size < 8192, "{}", size);
    Ok(inner)
}

fn checked(http_status: u16, body: &Value) -> pb::Status {
    let error = Error::Answered(answer(http_status, &body.to_string()));
    check(&error).unwrap()
}

#[test]
fn a_name_of_any_length_keeps_its_violation() {
    for description in ["\u{1}".repeat(70_000), "é".repeat(70_000)] {
        let inner = pb::Status::decode(invalid_name(&description).details()).unwrap();
        assert_eq!(inner.details.len(), 2);
    }
}

#[test]
fn a_message_of_five_kib_of_multi_byte_characters_fits() {
    let message = "€".repeat(1707);
    let inner = checked(404, &json!({"error": {"status": "NOT_FOUND", "message": message}}));
    assert_eq!(inner.message, "€".repeat(341));
    assert_eq!(inner.details, [googles("NOT_FOUND")]);
}

#[test]
fn metadata_of_twenty_kib_fits() {
    let metadata: serde_json::Map<_, _> =
        (0..20).map(|n| (format!("key{n}"), json!("v".repeat(1024)))).collect();
    let inner = checked(
        404,
        &json!({"error": {"status": "NOT_FOUND", "message": "m", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d", "metadata": metadata},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ]}}),
    );
    assert_eq!(inner.details[1..], [retry(1, 0)]);
    let info = pb::ErrorInfo::decode(&inner.details[0].value[..]).unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("R", "d"));
    assert_eq!(info.metadata.len(), 5);
}

#[test]
fn two_hundred_details_fit() {
    let mut details = vec![json!({"@type": "x/y", "text": "t".repeat(100)}); 200];
    details.push(json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d"}));
    let inner = checked(404, &json!({"error": {"message": "m", "details": details}}));
    assert_eq!(inner.details.last(), Some(&info("d", "R")));
    assert!(inner.details.len() > 20, "{}", inner.details.len());
}

/// JSON with the words that are looked for, in likely and unlikely places.
fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type.googleapis.com/google.rpc.ErrorInfo",
        "type.googleapis.com/google.rpc.RetryInfo",
        "type.googleapis.com/google.rpc.DebugInfo",
        "type.googleapis.com/google.rpc.Status",
        "type.googleapis.com/google.rpc.QuotaFailure",
        "type.googleapis.com/google.protobuf.Any",
        "type.googleapis.com/google.protobuf.Duration",
        "type.googleapis.com/google.protobuf.FieldMask",
        "type.googleapis.com/google.protobuf.ListValue",
        "type.googleapis.com/google.protobuf.Struct",
        "type.googleapis.com/google.protobuf.Timestamp",
        "type.googleapis.com/google.protobuf.DescriptorProto",
        "countermand",
        "NOT_FOUND",
        "OK",
        "UNAUTHENTICATED",
        "quotaExceeded",
        "-999999999999999.9s",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[\\x00-\\x1f%é]{0,2000}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "@type",
        "reason",
        "domain",
        "metadata",
        "details",
        "errors",
        "value",
        "retryDelay",
        "violations",
        "quotaValue",
        "status",
        "message",
        "code",
        "k",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_as_a_body(http_status: u16, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let google = GoogleError::parse(&body);
        check(&Error::Answered(Answer { http_status, google: google.map(Arc::new), retry_after: None }))?;
    }

    #[test]
    fn any_json_as_an_error(
        http_status: u16,
        error in prop::collection::btree_map(
            prop::sample::select(vec!["code", "message", "status", "errors"]), json_value(), 0..4),
        details in prop::collection::vec(json_value(), 0..10),
        retry_after: Option<u64>,
    ) {
        let mut error: serde_json::Map<_, _> =
            error.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        error.insert("details".to_owned(), Value::from(details));
        let mut answer = answer(http_status, &json!({"error": error}).to_string());
        answer.retry_after = retry_after.map(Duration::from_secs);
        check(&Error::Answered(answer))?;
    }
}
