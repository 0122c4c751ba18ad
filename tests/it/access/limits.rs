//! Limits on calls, requests and connections of authenticated callers.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tonic::Code;

use crate::{
    access::{
        CONSOLE, HOST, NAME,
        certificates::connect_with_certificate,
        fixture::{Fixture, permit_only},
    },
    support::{
        details::assert_our_error_with_retry,
        files::replace,
        reply::Reply,
        service::Setup,
        tls::{Authority, dns, uri},
        tls_client::TlsClient,
        with_timeout,
    },
};

/// A service with one limit. It requires a client certificate of `authority`, and permits the console.
async fn start_with(authority: &Authority, limit: &'static str, value: &str) -> Fixture {
    let policy = permit_only(&[("console", CONSOLE)]);
    let setup = |setup: Setup| setup.tls(&authority.server(), Some(authority)).policy(&policy);
    Fixture::start(|plain| setup(plain).variable(limit, value)).await
}

#[tokio::test]
async fn a_caller_at_its_own_limit_is_refused_while_other_callers_are_served() {
    let authority = Authority::new();
    let policy = permit_only(&[("console", CONSOLE), ("host", HOST)]);
    let setup = |setup: Setup| setup.tls(&authority.server(), Some(&authority)).policy(&policy);
    // By default, one caller may have a quarter of all calls.
    let fixture = Fixture::start(|plain| setup(plain).max_concurrent_calls(4)).await;
    let client = authority.client(vec![uri(CONSOLE)]);
    let console = connect_with_certificate(&fixture, &authority, &client).await;
    // The limit is that of the caller, not of its connection.
    let console2 = connect_with_certificate(&fixture, &authority, &client).await;
    let host =
        connect_with_certificate(&fixture, &authority, &authority.client(vec![dns("console.corp.example")]))
            .await;
    let (ok, gate) = Reply::ok().held();
    fixture.upstream.answers([ok]);
    let first = console.start(&format!("{NAME}1"), &[]).await;
    fixture.upstream.wait_for_requests(1).await;
    for connection in [&console, &console2] {
        let call = fixture.cancel(connection, &[]).await;
        assert_our_error_with_retry(&call.status(), Code::Unavailable, "OVERLOADED", 1);
        let line = json!([call.line["caller"], call.line["name"], call.line["decision"]]);
        assert_eq!(line, json!([CONSOLE, NAME, null]), "{}", call.line);
    }
    fixture.cancel(&host, &[]).await.assert_allowed(HOST, "client-certificate", &["host"]);
    gate.open();
    assert_eq!(first.response().await.code(), Code::Ok);
    fixture.cancel(&console2, &[]).await.assert_allowed(CONSOLE, "client-certificate", &["console"]);
}

#[tokio::test]
async fn a_call_over_the_limit_is_refused_and_audited_without_a_caller() {
    let authority = Authority::new();
    let fixture = start_with(&authority, "COUNTERMAND_MAX_CONCURRENT_CALLS", "1").await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let host =
        connect_with_certificate(&fixture, &authority, &authority.client(vec![dns("console.corp.example")]))
            .await;
    // Denied calls leave the permit free.
    for _ in 0..3 {
        fixture.cancel(&host, &[]).await.assert_denied(HOST, "client-certificate", &[]);
    }
    let (ok, gate) = Reply::ok().held();
    fixture.upstream.answers([ok]);
    let first = console.start(NAME, &[]).await;
    fixture.upstream.wait_for_requests(1).await;
    for connection in [&console, &host] {
        let call = fixture.cancel(connection, &[]).await;
        assert_our_error_with_retry(&call.status(), Code::Unavailable, "OVERLOADED", 1);
        let line = json!([call.line["caller"], call.line["name"], call.line["decision"]]);
        assert_eq!(line, json!([null, null, null]), "{}", call.line);
    }
    gate.open();
    assert_eq!(first.response().await.code(), Code::Ok);
    fixture.cancel(&console, &[]).await.assert_allowed(CONSOLE, "client-certificate", &["console"]);
}

#[tokio::test]
async fn a_request_over_the_size_limit_is_audited_with_its_caller() {
    let authority = Authority::new();
    let fixture = start_with(&authority, "COUNTERMAND_MAX_REQUEST_BYTES", "1024").await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let call = fixture.call(&console, "CancelOperation", &"x".repeat(2000), &[]).await;
    let line = json!([call.line["caller"], call.line["name"], call.line["decision"], call.line["code"]]);
    assert_eq!(line, json!([CONSOLE, null, "invalid", "INVALID_ARGUMENT"]));
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_before_the_tls_handshake() {
    let authority = Authority::new();
    let fixture = start_with(&authority, "COUNTERMAND_MAX_CONNECTIONS", "1").await;
    let console = authority.client(vec![uri(CONSOLE)]);
    let first = connect_with_certificate(&fixture, &authority, &console).await;
    let call = fixture.cancel(&first, &[]).await;
    call.assert_allowed(CONSOLE, "client-certificate", &["console"]);
    let client = TlsClient::new(&authority, Some(&console));
    assert!(with_timeout("the handshake to fail", client.connect(fixture.service.address)).await.is_err());
    fixture.cancel(&first, &[]).await.assert_allowed(CONSOLE, "client-certificate", &["console"]);
}

#[tokio::test]
async fn a_connection_of_a_removed_client_ca_is_closed_at_its_maximum_age() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let policy = permit_only(&[("console", CONSOLE)]);
    let setup = |setup: Setup| setup.tls(&authority.server(), Some(&clients)).policy(&policy);
    let fixture = Fixture::start(|plain| setup(plain).variable("COUNTERMAND_MAX_CONNECTION_AGE", "4s")).await;
    let client = TlsClient::new(&authority, Some(&clients.client(vec![uri(CONSOLE)])));
    let [_, _, ca] = fixture.service.tls_files();
    let (old, _) = client.open(fixture.service.address).await;
    replace(&ca, &authority.pem());
    fixture.cancel(&old, &[]).await.assert_allowed(CONSOLE, "client-certificate", &["console"]);
    with_timeout("the handshake to fail", async {
        while client.try_session(fixture.service.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    with_timeout("GOAWAY", async { while old.accepts_calls().await {} }).await;
    old.end().await.unwrap();
}

#[tokio::test]
async fn a_silent_connection_delays_no_other_and_a_call_without_a_message_is_audited_when_it_ends() {
    let authority = Authority::new();
    let fixture = start_with(&authority, "COUNTERMAND_HANDSHAKE_TIMEOUT", "1h").await;
    let _silent = TcpStream::connect(fixture.service.address).await.unwrap();
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let incomplete = console.start_without_a_message(&[]).await;
    // The server accepts the calls of a connection in order, so it has accepted the incomplete call.
    fixture.cancel(&console, &[]).await.assert_allowed(CONSOLE, "client-certificate", &["console"]);
    drop(incomplete);
    let line = with_timeout("the audit line", async {
        loop {
            if let Some(line) = fixture.service.audit_log().get(1) {
                break line.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let line = json!([line["caller"], line["name"], line["decision"], line["code"], line["upstream_status"]]);
    assert_eq!(line, json!([CONSOLE, null, null, "CANCELLED", null]));
    assert_eq!(fixture.upstream.requests().len(), 1);
}
