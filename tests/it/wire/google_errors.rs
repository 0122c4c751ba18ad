//! Google's errors, from the HTTP response to the bytes that a gRPC client receives. Unit tests cover the whole table;
//! these tests cover one error of each kind.

use prost_types::{Any, Struct, Value, value::Kind};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::{
    support::{
        details::{GOOGLE_DOMAIN, assert_status, decode, error_info, retry_info, to_any},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
    wire::NAME,
};

/// The status of a cancel that Google answers with `reply`. A second request fails the test.
async fn cancel_status(reply: Reply) -> Status {
    let upstream = Upstream::start().await;
    upstream.answers([reply]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap_err()
}

#[tokio::test]
async fn the_status_and_message_of_google_are_returned() {
    for (http_status, name, code) in [
        (404, "NOT_FOUND", Code::NotFound),
        (403, "PERMISSION_DENIED", Code::PermissionDenied),
        (400, "FAILED_PRECONDITION", Code::FailedPrecondition),
        (500, "UNKNOWN", Code::Unknown),
    ] {
        let status = cancel_status(Reply::plain_error(http_status, name, "It is so.")).await;
        assert_status(&status, code, "It is so.", vec![error_info(GOOGLE_DOMAIN, name)]);
    }
}

#[tokio::test]
async fn a_403_for_a_rate_limit_and_a_500_for_not_found_get_the_intended_code() {
    let legacy = json!({"error": {"code": 403, "message": "Slow.",
        "errors": [{"domain": "usageLimits", "reason": "rateLimitExceeded"}]}});
    let status = cancel_status(Reply::json(403, &legacy)).await;
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "Slow."));

    let reply = Reply::plain_error(500, "INTERNAL", "Requested entity was not found.");
    let status = cancel_status(reply).await;
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Requested entity was not found."));
}

#[tokio::test]
async fn a_quota_error_keeps_its_details_and_is_not_retried() {
    let violation = json!({"subject": "project:1", "description": "Requests per minute"});
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "at 10.0.0.7"},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED",
         "domain": "googleapis.com", "metadata": {"service": "androidmanagement.googleapis.com"}},
    ]);
    let reply = Reply::error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", details);
    let status = cancel_status(reply.header("retry-after", "42")).await;

    let violation = pb::quota_failure::Violation {
        subject: "project:1".to_owned(),
        description: "Requests per minute".to_owned(),
        ..Default::default()
    };
    let metadata = [("service".to_owned(), "androidmanagement.googleapis.com".to_owned())];
    let google_info = pb::ErrorInfo {
        reason: "RATE_LIMIT_EXCEEDED".to_owned(),
        domain: "googleapis.com".to_owned(),
        metadata: metadata.into(),
    };
    let want = vec![
        to_any("google.rpc.QuotaFailure", &pb::QuotaFailure { violations: vec![violation] }),
        to_any("google.rpc.ErrorInfo", &google_info),
        retry_info(42),
    ];
    assert_status(&status, Code::ResourceExhausted, "Quota exceeded.", want);
}

#[tokio::test]
async fn a_detail_of_an_unknown_type_becomes_a_struct_with_its_type() {
    let kind = "type.googleapis.com/google.android.devicemanagement.v1.Trouble";
    let details = json!([{"@type": kind, "newPassword": "hunter2"}]);
    let status = cancel_status(Reply::error(409, "ABORTED", "Twice.", details)).await;
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [("@type".to_owned(), text(kind)), ("newPassword".to_owned(), text("[redacted]"))];
    let detail = to_any("google.protobuf.Struct", &Struct { fields: fields.into() });
    let google_info = error_info(GOOGLE_DOMAIN, "ABORTED");
    assert_status(&status, Code::Aborted, "Twice.", vec![google_info, detail]);
}

#[tokio::test]
async fn a_body_that_is_not_google_json_is_not_copied() {
    for (http_status, code) in [(502, Code::Unavailable), (418, Code::FailedPrecondition)] {
        let upstream = Upstream::start().await;
        let page = Reply::new(http_status, "text/html", "<html>10.0.0.7 is down</html>");
        upstream.answers(std::iter::repeat_n(page, if http_status == 502 { 4 } else { 1 }));
        let service = Setup::of(&upstream).start().await;
        let status = service.cancel(NAME).await.unwrap_err();
        let message = format!(
            "the Android Management API answered HTTP {http_status} without an error in Google's format"
        );
        assert_status(
            &status,
            code,
            &message,
            vec![error_info(GOOGLE_DOMAIN, &format!("HTTP_{http_status}"))],
        );
    }
}

#[tokio::test]
async fn a_503_is_tried_four_times_and_the_last_error_is_returned() {
    let upstream = Upstream::start().await;
    let unavailable = |message: &str| Reply::plain_error(503, "UNAVAILABLE", message);
    upstream.answers(["1", "2", "3", "4"].map(unavailable));
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "4", vec![error_info(GOOGLE_DOMAIN, "UNAVAILABLE")]);
    assert_eq!(upstream.requests().len(), 4);

    upstream.answers([unavailable("5"), Reply::new(504, "text/plain", ""), Reply::ok()]);
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn a_503_whose_retry_after_exceeds_the_deadline_is_returned_at_once() {
    let reply = Reply::plain_error(503, "UNAVAILABLE", "Later.").header("retry-after", "3600");
    let status = cancel_status(reply).await;
    assert_status(
        &status,
        Code::Unavailable,
        "Later.",
        vec![error_info(GOOGLE_DOMAIN, "UNAVAILABLE"), retry_info(3600)],
    );
}

#[tokio::test]
async fn the_trailers_of_a_large_error_are_below_8_kib() {
    let metadata: serde_json::Map<_, _> =
        (0..100).map(|n| (format!("key{n}"), json!("€".repeat(1000)))).collect();
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d",
         "metadata": metadata},
        {"@type": "type.example/Unknown", "text": "x".repeat(100_000)},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
    ]);
    let upstream = Upstream::start().await;
    upstream.answers([Reply::error(404, "NOT_FOUND", &"€".repeat(100_000), details)]);
    let service = Setup::of(&upstream).start().await;
    let response = service.wire().await.cancel(NAME, &[]).await;

    assert_eq!(response.code(), Code::NotFound);
    assert!(response.header_list_size() < 8192, "{}", response.header_list_size());
    assert_eq!(response.message(), "€".repeat(1024 / "€".len()));
    let inner = decode(&response.status());
    assert_eq!((inner.code, inner.message), (5, response.message()));
    let kinds: Vec<&str> = inner.details.iter().map(|Any { type_url, .. }| type_url.as_str()).collect();
    assert_eq!(
        kinds,
        ["type.googleapis.com/google.rpc.ErrorInfo", "type.googleapis.com/google.rpc.RetryInfo"]
    );
}
