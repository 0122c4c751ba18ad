//! Concurrent calls for one operation share an upstream call. Each caller needs its own permission.

use tonic::Code;

use crate::{
    access::{
        CONSOLE, HOST, NAME,
        certificates::{self, connect_with_certificate},
    },
    support::{
        details::assert_our_error,
        grpc::{CANCEL, GET, WAIT, by_name},
        reply::Reply,
        tls::{Authority, dns, uri},
    },
};

#[tokio::test]
async fn a_denied_caller_gets_no_result_of_a_permitted_call() {
    let authority = Authority::new();
    let fixture = certificates::start(&authority).await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let stranger =
        connect_with_certificate(&fixture, &authority, &authority.client(vec![dns("other.corp.example")]))
            .await;
    for (nth, path) in [CANCEL, GET, WAIT].into_iter().enumerate() {
        let name = format!("{NAME}{nth}");
        let (reply, gate) = Reply::json(200, &serde_json::json!({"done": true, "response": {}})).held();
        fixture.upstream.answers([reply]);
        let sent = fixture.upstream.requests().len();
        let allowed = console.start_raw(path, &[], &by_name(&name)).await;
        fixture.upstream.wait_for_requests(sent + 1).await;
        // The denial does not wait for the upstream call.
        let denied = stranger.start_raw(path, &[], &by_name(&name)).await.response().await;
        assert_our_error(&denied.status(), Code::PermissionDenied, "NOT_PERMITTED");
        gate.open();
        assert_eq!(allowed.response().await.code(), Code::Ok);
        // The cached operation is not visible either.
        let denied = stranger.start_raw(path, &[], &by_name(&name)).await.response().await;
        assert_eq!(denied.code(), Code::PermissionDenied, "{path}");
        assert_eq!(fixture.upstream.requests().len(), sent + 1, "{path}");
    }
    for line in fixture.service.audit_log() {
        let is_console = line["caller"] == CONSOLE;
        assert_eq!(line["decision"], if is_console { "allow" } else { "deny" }, "{line}");
        if !is_console {
            assert_eq!(
                [&line["upstream_status"], &line["attempts"], &line["shared"]],
                [&serde_json::Value::Null; 3]
            );
        }
    }
}

#[tokio::test]
async fn each_caller_of_a_shared_call_has_its_own_audit_line() {
    let authority = Authority::new();
    let fixture = certificates::start(&authority).await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let host =
        connect_with_certificate(&fixture, &authority, &authority.client(vec![dns("console.corp.example")]))
            .await;
    let (reply, gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    fixture.upstream.answers([reply]);
    let first = console.start(NAME, &[]).await;
    fixture.upstream.wait_for_requests(1).await;
    let second = host.start(NAME, &[]).await;
    host.wait_until_received().await;
    gate.open();
    for call in [first, second] {
        assert_eq!(call.response().await.code(), Code::NotFound);
    }
    assert_eq!(fixture.upstream.requests().len(), 1);
    for (caller, policy, shared) in [(CONSOLE, "console", None), (HOST, "host", Some(true))] {
        let log = fixture.service.audit_log();
        let line = log.iter().find(|line| line["caller"] == caller && line["code"] == "NOT_FOUND").unwrap();
        assert_eq!(line["policies"], serde_json::json!([policy]));
        assert_eq!((line["shared"].as_bool(), &line["upstream_status"]), (shared, &404.into()));
    }
}
