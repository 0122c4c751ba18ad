//! Errors of Google's, from the HTTP answer to the bytes that a gRPC client gets. The whole table is tested
//! beside the code; here is one of each kind, end to end.

use prost_types::{Any, Struct, Value, value::Kind};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::{
    support::{
        details::{GOOGLES, assert_status, decode, info, pack, retry},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
    wire::NAME,
};

/// What a cancel gets when Google answers once with `reply`, and is to be asked no second time.
async fn answer(reply: Reply) -> Status {
    let upstream = Upstream::start().await;
    upstream.answers([reply]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap_err()
}

#[tokio::test]
async fn googles_own_status_and_message_go_through() {
    for (http_status, name, code) in [
        (404, "NOT_FOUND", Code::NotFound),
        (403, "PERMISSION_DENIED", Code::PermissionDenied),
        (400, "FAILED_PRECONDITION", Code::FailedPrecondition),
        (500, "UNKNOWN", Code::Unknown),
    ] {
        let status = answer(Reply::plain_error(http_status, name, "It is so.")).await;
        assert_status(&status, code, "It is so.", vec![info(GOOGLES, name)]);
    }
}

#[tokio::test]
async fn the_quirks_of_the_field_get_the_code_that_is_meant() {
    let legacy = json!({"error": {"code": 403, "message": "Slow.",
        "errors": [{"domain": "usageLimits", "reason": "rateLimitExceeded"}]}});
    let status = answer(Reply::json(403, &legacy)).await;
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "Slow."));

    let reply = Reply::plain_error(500, "INTERNAL", "Requested entity was not found.");
    let status = answer(reply).await;
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Requested entity was not found."));
}

#[tokio::test]
async fn a_spent_quota_is_told_with_its_details_and_not_asked_again() {
    let violation = json!({"subject": "project:1", "description": "Requests per minute"});
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "at 10.0.0.7"},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED",
         "domain": "googleapis.com", "metadata": {"service": "androidmanagement.googleapis.com"}},
    ]);
    let reply = Reply::error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", details);
    let status = answer(reply.header("retry-after", "42")).await;

    let violation = pb::quota_failure::Violation {
        subject: "project:1".to_owned(),
        description: "Requests per minute".to_owned(),
        ..Default::default()
    };
    let metadata = [("service".to_owned(), "androidmanagement.googleapis.com".to_owned())];
    let googles = pb::ErrorInfo {
        reason: "RATE_LIMIT_EXCEEDED".to_owned(),
        domain: "googleapis.com".to_owned(),
        metadata: metadata.into(),
    };
    let want = vec![
        pack("google.rpc.QuotaFailure", &pb::QuotaFailure { violations: vec![violation] }),
        pack("google.rpc.ErrorInfo", &googles),
        retry(42),
    ];
    assert_status(&status, Code::ResourceExhausted, "Quota exceeded.", want);
}

#[tokio::test]
async fn a_detail_of_an_unknown_type_becomes_a_struct_that_names_it() {
    let kind = "type.googleapis.com/google.android.devicemanagement.v1.Trouble";
    let details = json!([{"@type": kind, "newPassword": "hunter2"}]);
    let status = answer(Reply::error(409, "ABORTED", "Twice.", details)).await;
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [("@type".to_owned(), text(kind)), ("newPassword".to_owned(), text("[redacted]"))];
    let detail = pack("google.protobuf.Struct", &Struct { fields: fields.into() });
    let googles = info(GOOGLES, "ABORTED");
    assert_status(&status, Code::Aborted, "Twice.", vec![googles, detail]);
}

#[tokio::test]
async fn what_is_not_googles_json_is_not_repeated() {
    for (http_status, code) in [(502, Code::Unavailable), (418, Code::FailedPrecondition)] {
        let upstream = Upstream::start().await;
        let page = Reply::new(http_status, "text/html", "<html>10.0.0.7 is down</html>");
        upstream.answers(std::iter::repeat_n(page, if http_status == 502 { 4 } else { 1 }));
        let service = Setup::of(&upstream).start().await;
        let status = service.cancel(NAME).await.unwrap_err();
        let message = format!(
            "the Android Management API answered HTTP {http_status} without an error in Google's format"
        );
        assert_status(&status, code, &message, vec![info(GOOGLES, &format!("HTTP_{http_status}"))]);
    }
}

#[tokio::test]
async fn a_503_is_asked_four_times_and_its_last_word_counts() {
    let upstream = Upstream::start().await;
    let word = |word: &str| Reply::plain_error(503, "UNAVAILABLE", word);
    upstream.answers([word("1"), word("2"), word("3"), word("4")]);
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "4", vec![info(GOOGLES, "UNAVAILABLE")]);
    assert_eq!(upstream.seen().len(), 4);

    upstream.answers([word("5"), Reply::new(504, "text/plain", ""), Reply::ok()]);
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn a_408_and_a_425_of_a_front_end_are_retried() {
    let upstream = Upstream::start().await;
    let page = |http_status| Reply::new(http_status, "text/html", "<html>");
    upstream.answers([page(408), page(425), Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap();

    upstream.answers([408, 425, 425, 408].map(page));
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_503_that_asks_for_more_time_than_there_is_is_told_at_once() {
    let reply = Reply::plain_error(503, "UNAVAILABLE", "Later.").header("retry-after", "3600");
    let status = answer(reply).await;
    assert_status(&status, Code::Unavailable, "Later.", vec![info(GOOGLES, "UNAVAILABLE"), retry(3600)]);
}

#[tokio::test]
async fn an_error_of_any_size_arrives_in_less_than_8_kib() {
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
    let answer = service.wire().await.cancel(NAME, &[]).await;

    assert_eq!(answer.code(), Code::NotFound);
    assert!(answer.weight() < 8192, "{}", answer.weight());
    assert_eq!(answer.message(), "€".repeat(1024 / "€".len()));
    let inner = decode(&answer.status());
    assert_eq!((inner.code, inner.message), (5, answer.message()));
    let kinds: Vec<&str> = inner.details.iter().map(|Any { type_url, .. }| type_url.as_str()).collect();
    assert_eq!(
        kinds,
        ["type.googleapis.com/google.rpc.ErrorInfo", "type.googleapis.com/google.rpc.RetryInfo"]
    );
}
