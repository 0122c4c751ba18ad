//! The errors that are our own.

use super::*;

#[test]
fn our_own_errors_are_in_our_domain() {
    let own = |reason| info("countermand", reason);
    let retry_after = Duration::from_secs(3);
    assert_status(
        &from_upstream(&Error::CredentialUnavailable { retry_after }),
        Code::Unavailable,
        "the proxy has no valid token for the Android Management API at the moment",
        vec![own("CREDENTIAL_UNAVAILABLE"), retry(3, 0)],
    );
    assert_status(
        &from_upstream(&Error::Malformed { what: "a redirect", http_status: 302 }),
        Code::Internal,
        "the answer of the Android Management API, HTTP 302, is not one of its own: a redirect",
        vec![own("UPSTREAM_MALFORMED")],
    );
    assert_status(
        &from_upstream(&Error::NotHttp { cause: "10.0.0.7:443 sent garbage".to_owned() }),
        Code::Internal,
        "what answers for the Android Management API does not speak HTTP",
        vec![own("UPSTREAM_MALFORMED")],
    );
    assert_status(
        &from_upstream(&Error::Unreachable { cause: "10.0.0.7:443 refused".to_owned() }),
        Code::Unavailable,
        "the Android Management API gave no whole answer",
        vec![own("UPSTREAM_UNREACHABLE")],
    );
    let deadline = Error::DeadlineExceeded { while_doing: "waiting for an answer" };
    assert_status(
        &from_upstream(&deadline),
        Code::DeadlineExceeded,
        "the deadline passed waiting for an answer",
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
        "the proxy shuts down, and could not wait for this call",
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
fn an_invalid_name_is_a_violation_of_the_field() {
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
