//! The audit log with malicious callers, and when it cannot be written.

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    access::{
        BEARER, CONSOLE, NAME,
        certificates::{self, connect_with_certificate},
        fixture::{Fixture, permit_only},
        jwt::{accept_tokens_of, bearer},
    },
    support::{
        details::{assert_our_error, assert_our_error_with_retry},
        issuer::{Key, claims},
        raw_client::{HEADERS, RawClient},
        reply::Reply,
        service::Setup,
        tls::{Authority, uri},
        with_timeout,
    },
};

/// Texts that could end a line or a string for some reader, or control a terminal.
const TEXTS: [&str; 8] = [
    "\n{\"caller\":\"unix:0\",\"decision\":\"allow\"}\n",
    "\r\n\r",
    "\"}\n{\"decision\":\"allow",
    "\\\"}\\n{\\",
    "\u{2028}\u{2029}\u{85}\u{b}\u{c}",
    "\u{1b}[2K\u{1b}]0;x\u{7}",
    "\u{202e}\u{200b}\u{feff}",
    "\0",
];

/// Asserts that the log has this number of lines, each a JSON object in printable ASCII without unknown or repeated
/// members.
fn assert_well_formed(log: &str, lines: usize) {
    assert!(log.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{log}");
    assert_eq!(log.split_terminator('\n').count(), lines, "{log}");
    assert!(log.ends_with('\n'));
    let members = [
        "time",
        "caller",
        "proof",
        "method",
        "name",
        "decision",
        "policies",
        "would_deny",
        "code",
        "upstream_status",
        "attempts",
        "shared",
        "credential",
        "duration_ms",
        "trace_id",
    ];
    for line in log.lines() {
        assert!(line.len() < 16 * 1024, "{}", line.len());
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        assert!(object.keys().all(|key| members.contains(&&**key)), "{line}");
        // A quote inside a string follows a backslash.
        let keys = line.match_indices("\":").filter(|(at, _)| !line[..*at].ends_with('\\'));
        assert_eq!(keys.count(), object.len(), "{line}");
    }
}

#[tokio::test]
async fn caller_input_cannot_add_or_forge_an_audit_line() {
    let key = Key::ec();
    let policy = permit_only(&[("bearer", BEARER)]);
    let fixture = Fixture::start(|setup| {
        accept_tokens_of(setup, &key)
            .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
            .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
            .policy(&policy)
    })
    .await;
    let connection = fixture.service.wire().await;
    let mut calls = 0;
    for text in TEXTS {
        let call = fixture.call(&connection, "CancelOperation", text, &[]).await;
        assert_eq!((call.status().code(), call.line["name"].as_str()), (Code::InvalidArgument, Some(text)));
        let mut claims = claims();
        claims["sub"] = text.into();
        let token = bearer(&key.token(Some("a"), &claims));
        let call = fixture.cancel(&connection, &[("authorization", &token)]).await;
        call.assert_denied(&format!("jwt:https://issuer.example#{text}"), "jwt", &[]);
        calls += 2;
    }
    // HTTP allows these bytes in a header. The service reads each of these headers.
    let odd = "\"}{\u{2028}\u{85}\\";
    for (header, code) in [
        ("traceparent", Code::PermissionDenied),
        ("grpc-timeout", Code::InvalidArgument),
        ("authorization", Code::PermissionDenied),
        ("x-forwarded-client-cert", Code::Unauthenticated),
        ("l5d-client-id", Code::Unauthenticated),
        ("user-agent", Code::PermissionDenied),
    ] {
        assert_eq!(fixture.cancel(&connection, &[(header, odd)]).await.status().code(), code, "{header}");
        calls += 1;
    }
    let token = format!("Bearer {odd}");
    fixture.cancel(&connection, &[("authorization", &token)]).await.assert_unauthenticated("INVALID_TOKEN");
    assert_well_formed(&fixture.service.audit_text(), calls + 1);
}

#[tokio::test]
async fn a_header_with_a_line_break_ends_the_connection_without_an_audit_line() {
    let fixture = Fixture::start(|setup| setup).await;
    for value in ["a\nb", "a\r\nb", "a\0b"] {
        let mut raw = RawClient::open(fixture.service.address).await;
        let (_, call) = raw.call_frames_with(1, &[("traceparent", value)]);
        raw.send(&call).await;
        let responded = with_timeout("a response or the end of the connection", async {
            loop {
                match raw.read().await {
                    Some((HEADERS, _)) => break true,
                    Some(_) => {}
                    None => break false,
                }
            }
        });
        assert!(!responded.await, "{value:?}");
    }
    assert_eq!(fixture.service.audit_text(), "");
    let mut raw = RawClient::open(fixture.service.address).await;
    let (_, call) = raw.call_frames_with(17, &[("traceparent", "none")]);
    raw.send(&call).await;
    with_timeout("a response", async { while raw.read().await.unwrap().0 != HEADERS {} }).await;
    assert_well_formed(&fixture.service.audit_text(), 1);
}

#[tokio::test]
async fn long_input_makes_a_short_audit_line_or_none() {
    let fixture = Fixture::start(|setup| accept_tokens_of(setup, &Key::ec()).policy("")).await;
    let connection = fixture.service.wire().await;
    let long = |length: usize| "\u{2028}".repeat(length / 3);
    let call = fixture.call(&connection, "CancelOperation", &long(60_000), &[]).await;
    assert_eq!(call.line["name"].as_str().unwrap(), long(1023), "a name is cut at its maximum length");
    let call = fixture.call(&connection, "CancelOperation", &long(100_000), &[]).await;
    assert_eq!((call.status().code(), &call.line["name"]), (Code::InvalidArgument, &Value::Null));
    let token = bearer(&"x".repeat(50_000));
    fixture.cancel(&connection, &[("authorization", &token)]).await.assert_unauthenticated("INVALID_TOKEN");
    let trace = "f".repeat(50_000);
    fixture.cancel(&connection, &[("traceparent", &trace)]).await.assert_denied("anonymous", "none", &[]);
    assert_well_formed(&fixture.service.audit_text(), 4);
    // The HTTP/2 server refuses the request before it becomes a call.
    let long = "x".repeat(100_000);
    assert_eq!(connection.start(NAME, &[("x-long", &long)]).await.http_status().await, 431);
    assert_well_formed(&fixture.service.audit_text(), 4);
}

#[tokio::test]
async fn calls_without_an_audit_log_are_refused_unless_on_failure_is_continue() {
    let (authority, key) = (Authority::new(), Key::ec());
    let policy = permit_only(&[("console", CONSOLE)]);
    let setup = |setup: Setup| {
        let setup = accept_tokens_of(setup, &key).tls(&authority.server(), Some(&authority)).policy(&policy);
        setup.variable("COUNTERMAND_AUDIT_FILE", "/dev/full")
    };
    let fixture = Fixture::start(setup).await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let stranger = connect_with_certificate(&fixture, &authority, &authority.client(vec![])).await;
    let invalid = ("authorization", "Bearer x");
    for (connection, name, headers) in [
        // The first call detects that the log cannot be written. The response hides that the policy denies the call.
        (&stranger, NAME, &[][..]),
        (&console, NAME, &[]),
        (&stranger, NAME, &[]),
        (&console, "none", &[]),
        (&console, NAME, &[invalid]),
    ] {
        let status = connection.cancel(name, headers).await.status();
        assert_our_error_with_retry(&status, Code::Unavailable, "AUDIT_UNAVAILABLE", 1);
    }
    assert!(fixture.upstream.requests().is_empty());
    let health = console.start_raw("/grpc.health.v1.Health/Check", &[], &[]).await;
    assert_eq!(health.response().await.code(), Code::Ok);

    let fixture =
        Fixture::start(|plain| setup(plain).variable("COUNTERMAND_AUDIT_ON_FAILURE", "continue")).await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let stranger = connect_with_certificate(&fixture, &authority, &authority.client(vec![])).await;
    for _ in 0..3 {
        assert_eq!(console.cancel(NAME, &[]).await.code(), Code::Ok);
        let denied = stranger.cancel(NAME, &[]).await.status();
        assert_our_error(&denied, Code::PermissionDenied, "NOT_PERMITTED");
        let unknown = stranger.cancel(NAME, &[invalid]).await.status();
        assert_our_error(&unknown, Code::Unauthenticated, "INVALID_TOKEN");
    }
    assert_eq!(fixture.upstream.requests().len(), 3);
}

#[tokio::test]
async fn the_audit_line_of_a_caller_that_hung_up_has_its_identity_and_the_outcome() {
    let authority = Authority::new();
    let fixture = certificates::start(&authority).await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let (not_found, gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    fixture.upstream.answers([not_found]);
    let _call = console.start(NAME, &[]).await;
    fixture.upstream.wait_for_requests(1).await;
    console.disconnect();
    gate.open();
    let line = fixture.service.audit_line("CancelOperation", "NOT_FOUND").await;
    let members =
        json!([line["caller"], line["proof"], line["policies"], line["upstream_status"], line["attempts"]]);
    assert_eq!(members, json!([CONSOLE, "client-certificate", ["console"], 404, 1]));
    assert_well_formed(&fixture.service.audit_text(), 1);
}
