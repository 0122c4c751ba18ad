//! Caller identities from headers: bearer tokens and forwarded identities.

use countermand::proto::longrunning::ListOperationsRequest;
use http::{HeaderValue, header};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    support::{
        details::{assert_our_error, assert_our_error_with_retry},
        grpc::{GET, LIST, WAIT, Wire, by_name},
        issuer::{Key, claims, key_set},
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
    },
    wire::NAME,
};

const FORWARDED: &str = "x-forwarded-client-cert";
const LINKERD: &str = "l5d-client-id";

/// The status of a cancel with these headers.
async fn cancel_status(wire: &Wire, headers: &[(&str, &str)]) -> Status {
    wire.cancel(NAME, headers).await.status()
}

fn keys(key: &Key) -> Reply {
    Reply::new(200, "application/jwk-set+json", key_set([key.jwk(Some("a"))]))
}

#[tokio::test]
async fn a_token_is_verified_and_not_sent_upstream() {
    let (upstream, issuer, key) = (Upstream::start().await, Upstream::start().await, Key::rsa());
    issuer.always_answers(keys(&key));
    let service = Setup::of(&upstream).jwt_issuer(&format!("{}/jwks", issuer.url())).start().await;
    let wire = service.wire().await;
    let bearer = |token: &str| format!("Bearer {token}");
    let token = key.token(Some("a"), &claims());

    upstream.answers([Reply::ok(), Reply::ok()]);
    assert_eq!(wire.cancel(NAME, &[("authorization", &bearer(&token))]).await.code(), Code::Ok);
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok, "without one the caller is anonymous");
    let our_token = HeaderValue::from_static("Bearer t1");
    for call in upstream.requests() {
        assert_eq!(call.headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>(), [&our_token]);
    }
    let fetches = issuer.requests();
    assert_eq!(fetches[0].path, "/jwks");
    assert!(!fetches[0].headers.contains_key(header::AUTHORIZATION));

    let mut expired = claims();
    expired["exp"] = 1.into();
    for (token, message) in [
        ("opaque".to_owned(), "the bearer token is not a JWT, or is malformed"),
        (key.token(Some("a"), &expired), "the bearer token has expired"),
        (key.token(Some("b"), &claims()), "the bearer token is signed with an unknown key"),
        (format!("{token}A"), "the bearer token has an invalid signature"),
    ] {
        let status = cancel_status(&wire, &[("authorization", &bearer(&token))]).await;
        assert_our_error(&status, Code::Unauthenticated, "INVALID_TOKEN");
        assert_eq!(status.message(), message);
    }
    let two = [("authorization", &bearer(&token)[..]), ("authorization", "Basic YTpi")];
    assert_our_error(&cancel_status(&wire, &two).await, Code::Unauthenticated, "INVALID_TOKEN");
}

#[tokio::test]
async fn a_call_waits_for_the_first_keys_until_its_deadline() {
    let (upstream, issuer, key) = (Upstream::start().await, Upstream::start().await, Key::ec());
    let (held, gate) = keys(&key).held();
    issuer.answers([held]);
    let service = Setup::of(&upstream).jwt_issuer(&format!("{}/jwks", issuer.url())).start().await;
    let wire = service.wire().await;
    let bearer = format!("Bearer {}", key.token(Some("a"), &claims()));

    let short = cancel_status(&wire, &[("authorization", &bearer), ("grpc-timeout", "1m")]).await;
    assert_our_error(&short, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let long = wire.start(NAME, &[("authorization", &bearer)]).await;
    upstream.answers([Reply::ok()]);
    gate.open();
    assert_eq!(long.response().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_token_is_refused_while_there_are_no_keys() {
    let (upstream, key) = (Upstream::start().await, Key::ec());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = format!("http://{}/jwks", listener.local_addr().unwrap());
    drop(listener);
    let service = Setup::of(&upstream).jwt_issuer(&down).start().await;
    let wire = service.wire().await;
    let bearer = format!("Bearer {}", key.token(Some("a"), &claims()));
    let status = cancel_status(&wire, &[("authorization", &bearer)]).await;
    assert_our_error_with_retry(&status, Code::Unavailable, "JWKS_UNAVAILABLE", 30);
    upstream.answers([Reply::ok()]);
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok, "a call without a token is served");
}

#[tokio::test]
async fn a_malformed_forwarded_identity_is_refused_only_when_forwarding_is_enabled() {
    let malformed = [(FORWARDED, "URI=\""), (LINKERD, "a b")];
    let upstream = Upstream::start().await;
    upstream.answers(malformed.map(|_| Reply::ok()));
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    for header in malformed {
        assert_eq!(wire.cancel(NAME, &[header]).await.code(), Code::Ok, "{header:?}");
    }

    let service = Setup::of(&upstream)
        .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
        .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
        .start()
        .await;
    let wire = service.wire().await;
    for header in malformed {
        let status = cancel_status(&wire, &[header]).await;
        assert_our_error(&status, Code::Unauthenticated, "INVALID_FORWARDED_IDENTITY");
    }
    upstream.answers([Reply::ok()]);
    let forwarded = (FORWARDED, "By=spiffe://a/proxy;Hash=1;URI=spiffe://a/console");
    assert_eq!(wire.cancel(NAME, &[forwarded]).await.code(), Code::Ok);
}

#[tokio::test]
async fn an_overload_is_reported_before_the_identity_is_checked() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream)
        .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
        .max_concurrent_calls(1)
        .start()
        .await;
    let wire = service.wire().await;
    let first = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    assert_our_error_with_retry(
        &cancel_status(&wire, &[(LINKERD, "a b")]).await,
        Code::Unavailable,
        "OVERLOADED",
        1,
    );
    gate.open();
    assert_eq!(first.response().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_call_waits_for_missing_keys_until_its_deadline_or_the_upstream_timeout() {
    let (upstream, issuer, key) = (Upstream::start().await, Upstream::start().await, Key::ec());
    issuer.always_answers(Reply::hanging());
    let setup = Setup::of(&upstream).jwt_issuer(&format!("{}/jwks", issuer.url()));
    let service = setup.timeout("300ms").start().await;
    let wire = service.wire().await;
    let bearer = format!("Bearer {}", key.token(Some("a"), &claims()));
    let without_timeout = [("authorization", bearer.as_str())];
    let with_grpc_timeout = [("authorization", bearer.as_str()), ("grpc-timeout", "100m")];
    for headers in [&without_timeout[..], &with_grpc_timeout] {
        assert_our_error(&cancel_status(&wire, headers).await, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
}

const DEVICE: &str = "enterprises/LC01/devices/d1/operations";

/// Makes a call of each method, all refused with `code`. Asserts that the audit lines have the name and no caller.
async fn assert_names_are_recorded(service: &Service, headers: &[(&str, &str)], code: &str, decision: Value) {
    let before = service.audit_log().len();
    let wire = service.wire().await;
    let list = ListOperationsRequest { name: DEVICE.to_owned(), ..Default::default() }.encode_to_vec();
    let cancel = cancel_status(&wire, headers).await;
    for (path, message) in [(LIST, list), (GET, by_name(NAME)), (WAIT, by_name(NAME))] {
        let response = wire.start_raw(path, headers, &message).await.response().await;
        assert_eq!(response.code(), cancel.code());
    }
    let lines: Vec<Value> = service.audit_log().drain(before..).map(facts).collect();
    let line = |method: &str, name: &str| json!([method, name, decision, code, null, null, null]);
    let (cancel, list) = (line("CancelOperation", NAME), line("ListOperations", DEVICE));
    assert_eq!(lines, [cancel, list, line("GetOperation", NAME), line("WaitOperation", NAME)], "{headers:?}");
}

fn facts(line: Value) -> Value {
    let fields = ["method", "name", "decision", "code", "caller", "policies", "attempts"];
    fields.iter().map(|field| line[*field].clone()).collect()
}

#[tokio::test]
async fn the_audit_line_of_a_refused_caller_has_the_name() {
    let (upstream, issuer, key) = (Upstream::start().await, Upstream::start().await, Key::ec());
    issuer.always_answers(keys(&key));
    let service = Setup::of(&upstream)
        .jwt_issuer(&format!("{}/jwks", issuer.url()))
        .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
        .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
        .start()
        .await;
    let signed_by_another = format!("Bearer {}", Key::ec().token(Some("a"), &claims()));
    for header in [
        ("authorization", "Bearer opaque"),
        ("authorization", &signed_by_another),
        (FORWARDED, "URI=\""),
        (LINKERD, "a b"),
    ] {
        assert_names_are_recorded(&service, &[header], "UNAUTHENTICATED", json!("deny")).await;
    }

    issuer.always_answers(Reply::plain_error(500, "INTERNAL", ""));
    let setup = Setup::of(&upstream).jwt_issuer(&format!("{}/jwks", issuer.url()));
    let service = setup.start().await;
    let bearer = format!("Bearer {}", key.token(Some("a"), &claims()));
    assert_names_are_recorded(&service, &[("authorization", &bearer)], "UNAVAILABLE", json!(null)).await;

    issuer.always_answers(Reply::hanging());
    let setup = Setup::of(&upstream).jwt_issuer(&format!("{}/jwks", issuer.url()));
    let service = setup.start().await;
    let with_grpc_timeout = [("authorization", bearer.as_str()), ("grpc-timeout", "100m")];
    assert_names_are_recorded(&service, &with_grpc_timeout, "DEADLINE_EXCEEDED", json!(null)).await;
}

#[tokio::test]
async fn the_audit_line_of_a_refused_caller_has_no_name_without_a_whole_message() {
    let upstream = Upstream::start().await;
    let key = Key::rsa();
    let service = Setup::of(&upstream).jwt_key_set(&key_set([key.jwk(Some("a"))])).start().await;
    let wire = service.wire().await;
    let headers = [("authorization", "Bearer opaque")];
    // No body, half a length prefix, a prefix with a truncated message, and an invalid protobuf message.
    for body in [&b""[..], b"\0\0", b"\0\0\0\0\x09abc", b"\0\0\0\0\x02\x0a\xff"] {
        let (started, mut sender) = wire.start_without_a_message(&headers).await;
        sender.send_data(bytes::Bytes::from_static(body), true).unwrap();
        assert_our_error(&started.response().await.status(), Code::Unauthenticated, "INVALID_TOKEN");
    }
    for line in service.audit_log() {
        assert_eq!((line.get("name"), &line["decision"]), (None, &"deny".into()), "{line}");
    }
}
