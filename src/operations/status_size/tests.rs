use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use prost_types::Struct;
use serde_json::{Value, json};

use super::*;
use crate::{
    amapi::{
        error::{Error, ErrorResponse},
        google_error::GoogleError,
    },
    operations::status::{GOOGLE_DOMAIN, from_upstream, invalid_name},
};

/// The size of a trailers-only response with the status, as tonic writes it and HTTP/2 counts it.
fn size_on_wire(status: &Status) -> usize {
    let response: http::Response<()> = status.clone().into_http();
    let date = ("date".len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
    let pseudo = (":status".len(), "200".len());
    response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().len(), value.len()))
        .chain([date, pseudo])
        .map(|(name, value)| name + value + FIELD_OVERHEAD)
        .sum()
}

fn info(reason: &str, metadata: &[(&str, usize)]) -> Any {
    let metadata = metadata.iter().map(|&(key, length)| (key.to_owned(), "v".repeat(length)));
    let info =
        pb::ErrorInfo { reason: reason.to_owned(), domain: "d".to_owned(), metadata: metadata.collect() };
    translate::pack("google.rpc.ErrorInfo", &info)
}

fn retry() -> Any {
    let retry_delay = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    translate::pack("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay })
}

fn localized(length: usize) -> Any {
    let message = pb::LocalizedMessage { locale: "en".to_owned(), message: "m".repeat(length) };
    translate::pack("google.rpc.LocalizedMessage", &message)
}

fn bad_request(length: usize) -> Any {
    let violation = pb::bad_request::FieldViolation { field: "f".repeat(length), ..Default::default() };
    let message = pb::BadRequest { field_violations: vec![violation] };
    translate::pack("google.rpc.BadRequest", &message)
}

fn inner(status: &Status) -> pb::Status {
    let inner = pb::Status::decode(status.details()).unwrap();
    assert_eq!(inner.code, i32::from(status.code()));
    assert_eq!(inner.message, status.message());
    assert!(size_on_wire(status) < MAX_TRAILERS, "{}", size_on_wire(status));
    inner
}

#[test]
fn details_that_fit_are_unchanged() {
    let structure = translate::pack("google.protobuf.Struct", &Struct::default());
    let all = vec![structure, localized(1500), retry(), bad_request(1500), info("R", &[("k", 500)])];
    let built = limited(Code::NotFound, "gone", all.clone());
    assert_eq!(inner(&built).details, all);
    assert_eq!(built.message(), "gone");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    for (message, kept) in [
        ("a".repeat(1024), 1024),
        ("a".repeat(5000), 1024),
        (format!("a{}", "é".repeat(2560)), 1023),
        ("€".repeat(1700), 1023),
        (format!("ab{}", "😀".repeat(1280)), 1022),
    ] {
        let built = limited(Code::Internal, &message, vec![info("R", &[])]);
        assert_eq!(built.message(), &message[..kept]);
        assert_eq!(inner(&built).details, [info("R", &[])]);
    }
}

#[test]
fn details_of_the_lowest_priority_are_removed_first() {
    let structure = translate::pack("google.protobuf.Struct", &Struct::default());
    let all = vec![localized(3000), structure.clone(), bad_request(3000), retry(), info("R", &[])];
    let built = limited(Code::NotFound, "gone", all);
    let want = [structure, bad_request(3000), retry(), info("R", &[])];
    assert_eq!(inner(&built).details, want);
}

#[test]
fn error_info_and_retry_info_remain_among_two_hundred_details() {
    let mut all = vec![localized(100); 200];
    all.push(retry());
    all.push(info("R", &[]));
    let kept = inner(&limited(Code::NotFound, &"é".repeat(2000), all)).details;
    assert_eq!(kept[kept.len() - 2..], [retry(), info("R", &[])]);
    assert!(kept.len() > 10, "{}", kept.len());
}

#[test]
fn a_large_error_info_loses_its_largest_metadata() {
    let big = info("R", &[("a", 10), ("b", 9000), ("c", 20), ("d", 11_000)]);
    let kept = inner(&limited(Code::NotFound, "gone", vec![big, retry()])).details;
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[1], retry());
    let info = pb::ErrorInfo::decode(&kept[0].value[..]).unwrap();
    let mut keys: Vec<_> = info.metadata.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "c"]);
    assert_eq!(info.reason, "R");
}

#[test]
fn a_huge_reason_is_cut() {
    let kept = inner(&limited(Code::NotFound, "gone", vec![info(&"é".repeat(9000), &[("a", 9)])])).details;
    assert_eq!(kept, [info(&"é".repeat(31), &[])]);
}

#[test]
fn percent_encoding_is_counted_as_tonic_encodes() {
    let message: String = (1..0x250_u32).filter_map(char::from_u32).collect();
    let response: http::Response<()> = Status::new(Code::Internal, &message).into_http();
    assert_eq!(response.headers()["grpc-message"].len(), percent_encoded_len(&message));
}

/// Short and long texts with characters of one to four bytes.
fn text() -> impl Strategy<Value = String> {
    ("[\\x01 %aé€😀]{0,9}", 0..500_usize).prop_map(|(text, times)| text.repeat(times))
}

proptest! {
    #[test]
    fn the_limits_apply_to_any_details(
        message in text(),
        reason in text(),
        metadata in prop::collection::hash_map("\\PC{0,9}", text(), 0..12),
        others in prop::collection::vec((0..3_u8, 0..6000_usize), 0..40),
    ) {
        let info = pb::ErrorInfo { reason, domain: "d".to_owned(), metadata };
        let mut all = vec![translate::pack("google.rpc.ErrorInfo", &info)];
        all.extend(others.into_iter().map(|(kind, length)| match kind {
            0 => retry(),
            1 => bad_request(length),
            _ => localized(length),
        }));
        let retries = all.iter().any(|any| rank(any) == 1);
        let kept = inner(&limited(Code::Aborted, &message, all)).details;
        prop_assert_eq!(kept.iter().filter(|any| rank(any) == 0).count(), 1);
        prop_assert_eq!(kept.iter().any(|any| rank(any) == 1), retries);
    }
}

/// Checks the invariants of every error: a code other than OK, exactly one `ErrorInfo`, and the limits.
fn check(error: &Error) -> Result<pb::Status, TestCaseError> {
    let status = from_upstream(error);
    prop_assert_ne!(status.code(), Code::Ok);
    prop_assert!(status.message().len() <= 1024);

    let inner = pb::Status::decode(status.details()).unwrap();
    prop_assert_eq!(inner.code, status.code() as i32);
    prop_assert_eq!(&inner.message, status.message());
    prop_assert_eq!(inner.details.iter().filter(|any| rank(any) == 0).count(), 1);

    let response: http::Response<()> = status.into_http();
    let size: usize =
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    prop_assert!(size < 8192, "{}", size);
    Ok(inner)
}

fn error_response(http_status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    let google = GoogleError::parse(body).map(Arc::new);
    Error::Response(ErrorResponse { http_status, google, retry_after })
}

fn checked(http_status: u16, body: &Value) -> pb::Status {
    check(&error_response(http_status, body.to_string().as_bytes(), None)).unwrap()
}

#[test]
fn a_status_with_a_long_description_has_its_violation() {
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
    let reason = "NOT_FOUND".to_owned();
    let info = pb::ErrorInfo { reason, domain: GOOGLE_DOMAIN.to_owned(), metadata: Default::default() };
    assert_eq!(inner.details, [translate::pack("google.rpc.ErrorInfo", &info)]);
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
    assert_eq!(inner.details[1..], [retry()]);
    let info = pb::ErrorInfo::decode(&inner.details[0].value[..]).unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("R", "d"));
    assert_eq!(info.metadata.len(), 5);
}

#[test]
fn two_hundred_json_details_fit() {
    let mut details = vec![json!({"@type": "x/y", "text": "t".repeat(100)}); 200];
    details.push(json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d"}));
    let inner = checked(404, &json!({"error": {"message": "m", "details": details}}));
    assert_eq!(inner.details.last(), Some(&info("R", &[])));
    assert!(inner.details.len() > 20, "{}", inner.details.len());
}

/// JSON with the words that the code matches, in expected and unexpected positions.
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
    fn any_body_fits(http_status: u16, body in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&error_response(http_status, &body, None))?;
    }

    #[test]
    fn any_json_error_fits(
        http_status: u16,
        error in prop::collection::btree_map(
            prop::sample::select(vec!["code", "message", "status", "errors"]), json_value(), 0..4),
        details in prop::collection::vec(json_value(), 0..10),
        retry_after: Option<u64>,
    ) {
        let mut error: serde_json::Map<_, _> =
            error.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        error.insert("details".to_owned(), Value::from(details));
        let body = json!({"error": error}).to_string();
        check(&error_response(http_status, body.as_bytes(), retry_after.map(Duration::from_secs)))?;
    }
}
