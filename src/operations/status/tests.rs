use std::sync::Arc;

use prost::Message;
use serde_json::json;

use super::*;
use crate::amapi::google_error::GoogleError;

fn response(http_status: u16, body: &str) -> ErrorResponse {
    ErrorResponse {
        http_status,
        google: GoogleError::parse(body.as_bytes()).map(Arc::new),
        retry_after: None,
    }
}

fn status_of(http_status: u16, body: &str) -> Status {
    from_upstream(&Error::Response(response(http_status, body)))
}

/// Checks the code, the message and each byte of `grpc-status-details-bin`.
fn assert_status(status: &Status, code: Code, message: &str, details: Vec<Any>) {
    assert_eq!((status.code(), status.message()), (code, message));
    let want = pb::Status { code: code as i32, message: message.to_owned(), details };
    let got = pb::Status::decode(status.details()).unwrap();
    assert_eq!(got, want);
    assert_eq!(status.details(), want.encode_to_vec());
}

fn info(domain: &str, reason: &str) -> Any {
    let message =
        pb::ErrorInfo { reason: reason.to_owned(), domain: domain.to_owned(), metadata: Default::default() };
    Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: message.encode_to_vec() }
}

fn google_info(reason: &str) -> Any {
    info("androidmanagement.googleapis.com", reason)
}

fn retry(seconds: i64, nanos: i32) -> Any {
    let message = pb::RetryInfo { retry_delay: Some(prost_types::Duration { seconds, nanos }) };
    Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: message.encode_to_vec() }
}

#[test]
fn the_http_status_determines_the_code_without_googles_json() {
    for (http_status, code) in [
        (400, Code::InvalidArgument),
        (402, Code::FailedPrecondition),
        (403, Code::PermissionDenied),
        (404, Code::NotFound),
        (405, Code::FailedPrecondition),
        (409, Code::Aborted),
        (410, Code::FailedPrecondition),
        (412, Code::FailedPrecondition),
        (413, Code::FailedPrecondition),
        (429, Code::ResourceExhausted),
        (498, Code::FailedPrecondition),
        (499, Code::Cancelled),
        (500, Code::Internal),
        (501, Code::Unimplemented),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::DeadlineExceeded),
        (505, Code::Internal),
        (599, Code::Internal),
        (600, Code::Internal),
        (302, Code::Internal),
        (200, Code::Internal),
    ] {
        for body in ["", "<html>10.0.0.7 is down</html>", r#"{"error":"invalid_grant"}"#, r#"{"error":{}}"#] {
            let message = format!(
                "the Android Management API answered HTTP {http_status} without an error in Google's format"
            );
            let reason = format!("HTTP_{http_status}");
            assert_status(&status_of(http_status, body), code, &message, vec![google_info(&reason)]);
        }
    }
}

#[test]
fn an_exceeded_budget_has_the_time_of_the_turn_and_the_project() {
    for (project, subject) in [("mdm-1", "project:mdm-1"), ("", "project")] {
        let retry_after = Duration::from_micros(2_300_001);
        let status = from_upstream(&Error::QuotaBudget { retry_after, project: project.into() });
        let violation = pb::quota_failure::Violation {
            subject: subject.to_owned(),
            description:
                "the queries until the deadline are for calls that came earlier or are more important"
                    .to_owned(),
            ..Default::default()
        };
        let failure = pb::QuotaFailure { violations: vec![violation] };
        let failure = Any {
            type_url: "type.googleapis.com/google.rpc.QuotaFailure".to_owned(),
            value: failure.encode_to_vec(),
        };
        let message = "the proxy did not send the call, because the quota of the Google project has no query for it \
            before the deadline";
        let want = vec![info("countermand", "QUOTA_BUDGET"), retry(2, 301_000_000), failure];
        assert_status(&status, Code::ResourceExhausted, message, want);
    }
}

#[test]
fn the_error_status_takes_precedence_over_the_http_status() {
    for (number, name) in [
        (1, "CANCELLED"),
        (2, "UNKNOWN"),
        (3, "INVALID_ARGUMENT"),
        (4, "DEADLINE_EXCEEDED"),
        (5, "NOT_FOUND"),
        (6, "ALREADY_EXISTS"),
        (7, "PERMISSION_DENIED"),
        (8, "RESOURCE_EXHAUSTED"),
        (9, "FAILED_PRECONDITION"),
        (10, "ABORTED"),
        (11, "OUT_OF_RANGE"),
        (12, "UNIMPLEMENTED"),
        (13, "INTERNAL"),
        (14, "UNAVAILABLE"),
        (15, "DATA_LOSS"),
    ] {
        let body = json!({"error": {"code": 404, "message": "m", "status": name}}).to_string();
        for http_status in [400, 404, 500, 503] {
            let status = status_of(http_status, &body);
            assert_status(&status, Code::from(number), "m", vec![google_info(name)]);
        }
        assert_status(
            &status_of(404, &format!("[{body}]")),
            Code::from(number),
            "m",
            vec![google_info(name)],
        );
    }
}

#[test]
fn the_http_status_determines_the_code_for_an_unknown_error_status() {
    for name in ["OK", "not_found", "SOMETHING_NEW", ""] {
        let body = json!({"error": {"code": 409, "message": "m", "status": name}}).to_string();
        assert_status(&status_of(409, &body), Code::Aborted, "m", vec![google_info("HTTP_409")]);
    }
    let message = "the Android Management API answered HTTP 404 without a message";
    let status = status_of(404, r#"{"error":{"code":404}}"#);
    assert_status(&status, Code::NotFound, message, vec![google_info("HTTP_404")]);
}

#[test]
fn a_403_for_quota_is_resource_exhausted() {
    for reason in [
        "rateLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "quotaExceeded",
        "userRateLimitExceeded",
        "dailyLimitExceeded",
        "limitExceeded",
        "concurrentLimitExceeded",
        "servingLimitExceeded",
        "variableTermLimitExceeded",
        "dailyLimitExceededUnreg",
        "userRateLimitExceededUnreg",
    ] {
        let legacy = json!({"error": {"code": 403, "message": "m", "errors": [{"reason": reason}]}});
        let status = status_of(403, &legacy.to_string());
        assert_status(&status, Code::ResourceExhausted, "m", vec![google_info("HTTP_403")]);

        let mut both = legacy.clone();
        both["error"]["status"] = json!("PERMISSION_DENIED");
        let status = status_of(403, &both.to_string());
        assert_status(&status, Code::ResourceExhausted, "m", vec![google_info("RESOURCE_EXHAUSTED")]);

        let new = json!({"error": {"message": "m", "status": "PERMISSION_DENIED", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"},
        ]}});
        let status = status_of(403, &new.to_string());
        assert_status(&status, Code::ResourceExhausted, "m", vec![info("googleapis.com", reason)]);

        assert_eq!(status_of(400, &legacy.to_string()).code(), Code::InvalidArgument);
    }
    let other = json!({"error": {"message": "rateLimitExceeded", "errors": [{"reason": "forbidden"}]}});
    assert_eq!(status_of(403, &other.to_string()).code(), Code::PermissionDenied);
}

#[test]
fn a_500_with_the_not_found_message_is_not_found() {
    let message = "Requested entity was not found.";
    let body = json!({"error": {"code": 500, "message": message, "status": "INTERNAL"}}).to_string();
    assert_status(&status_of(500, &body), Code::NotFound, message, vec![google_info("NOT_FOUND")]);
    let bare = json!({"error": {"message": message}}).to_string();
    assert_status(&status_of(500, &bare), Code::NotFound, message, vec![google_info("HTTP_500")]);
    assert_status(&status_of(503, &body), Code::Internal, message, vec![google_info("INTERNAL")]);
    let other = json!({"error": {"message": "Requested entity was not found"}}).to_string();
    assert_eq!(status_of(500, &other).code(), Code::Internal);
}

#[test]
fn googles_details_are_forwarded_with_exactly_one_error_info() {
    let own = |reason: &str, domain: &str| {
        let kind = "type.googleapis.com/google.rpc.ErrorInfo";
        json!({"@type": kind, "reason": reason, "domain": domain})
    };
    let android = "type.googleapis.com/google.android.devicemanagement.v1.Problem";
    let unknown = json!({"@type": android});
    let fields = [(
        "@type".to_owned(),
        prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(android.to_owned())) },
    )];
    let structure = Any {
        type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
        value: prost_types::Struct { fields: fields.into() }.encode_to_vec(),
    };
    let debug = json!({"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "internals"});

    for (details, want) in [
        (json!([unknown, own("A", "x"), debug, own("B", "x")]), vec![structure.clone(), info("x", "A")]),
        (json!([unknown]), vec![google_info("NOT_FOUND"), structure]),
        // Google's details must not use our domain.
        (json!([own("DENIED", "countermand"), own("A", "x")]), vec![info("x", "A")]),
        (json!([own("DENIED", "countermand")]), vec![google_info("NOT_FOUND")]),
        (json!([3, "x", null]), vec![google_info("NOT_FOUND")]),
    ] {
        let body = json!({"error": {"status": "NOT_FOUND", "message": "m", "details": details}}).to_string();
        assert_status(&status_of(404, &body), Code::NotFound, "m", want);
    }
}

#[test]
fn retry_after_becomes_retry_info_when_the_body_has_none() {
    let mut bare = response(429, "");
    bare.retry_after = Some(Duration::from_millis(1500));
    let status = from_upstream(&Error::Response(bare.clone()));
    let message = "the Android Management API answered HTTP 429 without an error in Google's format";
    let want = vec![google_info("HTTP_429"), retry(1, 500_000_000)];
    assert_status(&status, Code::ResourceExhausted, message, want);

    bare.retry_after = Some(Duration::MAX);
    let status = from_upstream(&Error::Response(bare));
    let want = vec![google_info("HTTP_429"), retry(315_576_000_000, 0)];
    assert_status(&status, Code::ResourceExhausted, message, want);

    let body = json!({"error": {"status": "UNAVAILABLE", "message": "m", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
    ]}});
    let mut own = response(503, &body.to_string());
    own.retry_after = Some(Duration::from_secs(60));
    let status = from_upstream(&Error::Response(own));
    assert_status(&status, Code::Unavailable, "m", vec![google_info("UNAVAILABLE"), retry(7, 0)]);
}

#[test]
fn a_401_of_google_is_not_forwarded() {
    let body = json!({"error": {"status": "UNAUTHENTICATED", "message": "token ya29.x", "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_EXPIRED"},
    ]}});
    let body = body.to_string();
    for error in [
        Error::CredentialRejected(response(401, &body)),
        Error::Response(response(401, "")),
        Error::Response(response(403, &body)),
    ] {
        let message = "the Android Management API rejected the proxy's credential";
        let want = vec![info("countermand", "UPSTREAM_CREDENTIAL_REJECTED")];
        assert_status(&from_upstream(&error), Code::Internal, message, want);
    }
}

#[test]
fn the_code_of_an_error_is_that_of_its_status() {
    let (cause, retry_after) = ("refused".to_owned(), Duration::from_secs(3));
    for (error, code) in [
        (Error::NoCredential, Code::FailedPrecondition),
        (Error::UrlTooLong { field: "filter", url_length: 70_000 }, Code::InvalidArgument),
        (Error::NotBuilt { cause: cause.clone() }, Code::InvalidArgument),
        (Error::Response(response(404, "")), Code::NotFound),
        (Error::Response(response(401, "")), Code::Internal),
        (Error::CredentialRejected(response(401, "")), Code::Internal),
        (Error::CredentialUnavailable { retry_after }, Code::Unavailable),
        (Error::Malformed { what: "a redirect", http_status: 302 }, Code::Internal),
        (Error::BodyTooLong { http_status: 200 }, Code::Internal),
        (Error::NotHttp { cause: cause.clone() }, Code::Internal),
        (Error::Unreachable { cause }, Code::Unavailable),
        (Error::DeadlineExceeded { while_doing: "while waiting for a token" }, Code::DeadlineExceeded),
        (Error::QuotaBudget { retry_after, project: "p".into() }, Code::ResourceExhausted),
        (Error::Abandoned, Code::Cancelled),
        (Error::Lost, Code::Internal),
    ] {
        assert_eq!((code_of(&error), from_upstream(&error).code()), (code, code), "{error:?}");
    }
}

#[test]
fn local_errors_have_our_domain() {
    let own = |reason| info("countermand", reason);
    let retry_after = Duration::from_secs(3);
    assert_status(
        &from_upstream(&Error::NoCredential),
        Code::FailedPrecondition,
        "the proxy has no credential for this enterprise",
        vec![own("NO_CREDENTIAL_FOR_ENTERPRISE")],
    );
    assert_status(
        &from_upstream(&Error::CredentialUnavailable { retry_after }),
        Code::Unavailable,
        "the proxy has no valid token for the Android Management API at the moment",
        vec![own("CREDENTIAL_UNAVAILABLE"), retry(3, 0)],
    );
    assert_status(
        &from_upstream(&Error::Malformed { what: "a redirect", http_status: 302 }),
        Code::Internal,
        "the response, HTTP 302, is not from the Android Management API: a redirect",
        vec![own("UPSTREAM_MALFORMED")],
    );
    assert_status(
        &from_upstream(&Error::NotHttp { cause: "10.0.0.7:443 sent garbage".to_owned() }),
        Code::Internal,
        "the upstream of the Android Management API does not speak HTTP",
        vec![own("UPSTREAM_MALFORMED")],
    );
    assert_status(
        &from_upstream(&Error::Unreachable { cause: "10.0.0.7:443 refused".to_owned() }),
        Code::Unavailable,
        "the Android Management API did not send a complete response",
        vec![own("UPSTREAM_UNREACHABLE")],
    );
    let deadline = Error::DeadlineExceeded { while_doing: "before the upstream answered" };
    assert_status(
        &from_upstream(&deadline),
        Code::DeadlineExceeded,
        "the deadline passed before the upstream answered",
        vec![own("DEADLINE_EXCEEDED")],
    );
    let message = "an internal error of the proxy";
    assert_status(&from_upstream(&Error::Lost), Code::Internal, message, vec![own("INTERNAL")]);
    assert_status(
        &overloaded(retry_after),
        Code::Unavailable,
        "too many calls are in flight",
        vec![own("OVERLOADED"), retry(3, 0)],
    );
    assert_status(
        &audit_unavailable(retry_after),
        Code::Unavailable,
        "the audit log cannot be written at the moment",
        vec![own("AUDIT_UNAVAILABLE"), retry(3, 0)],
    );
    assert_status(
        &shutting_down(),
        Code::Unavailable,
        "the proxy shut down before this call completed",
        vec![own("SHUTTING_DOWN")],
    );
    assert_status(
        &not_supported("DeleteOperation"),
        Code::Unimplemented,
        "DeleteOperation is not supported",
        vec![own("NOT_SUPPORTED")],
    );
    assert_status(
        &invalid_timeout(),
        Code::InvalidArgument,
        "grpc-timeout is not one to eight digits and a unit of H, M, S, m, u or n",
        vec![own("INVALID_GRPC_TIMEOUT")],
    );
    assert_status(
        &invalid_forwarded_identity("a"),
        Code::Unauthenticated,
        "a",
        vec![own("INVALID_FORWARDED_IDENTITY")],
    );
    assert_status(&invalid_token("a"), Code::Unauthenticated, "a", vec![own("INVALID_TOKEN")]);
    assert_status(
        &keys_unavailable("a", retry_after),
        Code::Unavailable,
        "a",
        vec![own("JWKS_UNAVAILABLE"), retry(3, 0)],
    );
}

#[test]
fn an_invalid_name_is_a_violation_of_its_field() {
    let violation = pb::bad_request::FieldViolation {
        field: "name".to_owned(),
        description: "is empty".to_owned(),
        reason: "INVALID_NAME".to_owned(),
        localized_message: None,
    };
    let violations = Any {
        type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
        value: pb::BadRequest { field_violations: vec![violation] }.encode_to_vec(),
    };
    let want = vec![info("countermand", "INVALID_NAME"), violations];
    assert_status(&invalid_name("is empty"), Code::InvalidArgument, "name: is empty", want);
}

#[test]
fn each_code_has_googles_name() {
    for number in 0..=16 {
        let code = Code::from(number);
        assert_eq!(code_name(code).replace('_', ""), format!("{code:?}").to_uppercase());
    }
}
