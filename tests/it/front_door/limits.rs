//! Limits, as callers with a name meet them.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tonic::Code;

use crate::{
    front_door::{
        CONSOLE, HOST, NAME,
        certificates::wire,
        visit::{Door, only},
    },
    support::{
        details::assert_ours_with_retry,
        files::replace,
        reply::Reply,
        service::Setup,
        soon,
        tls::{Authority, dns, uri},
        tls_client::TlsClient,
    },
};

/// A front door to those who have a certificate of `authority`, by which the console may enter.
async fn door(authority: &Authority, limit: &'static str, value: &str) -> Door {
    let policy = only(&[("console", CONSOLE)]);
    let setup = |setup: Setup| setup.tls(&authority.server(), Some(authority)).policy(&policy);
    Door::open(|plain| setup(plain).variable(limit, value)).await
}

#[tokio::test]
async fn a_call_too_many_leaves_a_line_though_nobody_looked_at_it() {
    let authority = Authority::new();
    let door = door(&authority, "COUNTERMAND_MAX_CONCURRENT_CALLS", "1").await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let host = wire(&door, &authority, &authority.client(vec![dns("console.corp.example")])).await;
    // Who is denied takes no place from those who are not.
    for _ in 0..3 {
        door.cancel(&host, &[]).await.is_denied(HOST, "client-certificate", &[]);
    }
    let (ok, gate) = Reply::ok().held();
    door.upstream.answers([ok]);
    let first = console.start(NAME, &[]).await;
    door.upstream.has_seen(1).await;
    for wire in [&console, &host] {
        let visit = door.cancel(wire, &[]).await;
        assert_ours_with_retry(&visit.status(), Code::Unavailable, "OVERLOADED", 1);
        let line = json!([visit.line["caller"], visit.line["name"], visit.line["decision"]]);
        assert_eq!(line, json!([null, null, null]), "{}", visit.line);
    }
    gate.open();
    assert_eq!(first.answer().await.code(), Code::Ok);
    door.cancel(&console, &[]).await.is_let_in(CONSOLE, "client-certificate", &["console"]);
}

#[tokio::test]
async fn a_request_too_long_is_its_callers() {
    let authority = Authority::new();
    let door = door(&authority, "COUNTERMAND_MAX_REQUEST_BYTES", "1024").await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let visit = door.call(&console, "CancelOperation", &"x".repeat(2000), &[]).await;
    let line = json!([visit.line["caller"], visit.line["name"], visit.line["decision"], visit.line["code"]]);
    assert_eq!(line, json!([CONSOLE, null, "invalid", "INVALID_ARGUMENT"]));
}

#[tokio::test]
async fn a_connection_too_many_is_closed_before_anybody_shakes_its_hand() {
    let authority = Authority::new();
    let door = door(&authority, "COUNTERMAND_MAX_CONNECTIONS", "1").await;
    let console = authority.client(vec![uri(CONSOLE)]);
    let first = wire(&door, &authority, &console).await;
    let visit = door.cancel(&first, &[]).await;
    visit.is_let_in(CONSOLE, "client-certificate", &["console"]);
    let client = TlsClient::new(&authority, Some(&console));
    assert!(soon("a refusal", client.connect(door.service.address)).await.is_err());
    door.cancel(&first, &[]).await.is_let_in(CONSOLE, "client-certificate", &["console"]);
}

#[tokio::test]
async fn who_is_no_longer_believed_is_gone_when_the_connection_is_of_age() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let policy = only(&[("console", CONSOLE)]);
    let setup = |setup: Setup| setup.tls(&authority.server(), Some(&clients)).policy(&policy);
    let door = Door::open(|plain| setup(plain).variable("COUNTERMAND_MAX_CONNECTION_AGE", "4s")).await;
    let client = TlsClient::new(&authority, Some(&clients.client(vec![uri(CONSOLE)])));
    let [_, _, ca] = door.service.tls_files();
    let (kept, _) = client.open(door.service.address).await;
    replace(&ca, &authority.pem());
    door.cancel(&kept, &[]).await.is_let_in(CONSOLE, "client-certificate", &["console"]);
    soon("a refusal", async {
        while client.try_to_enter(door.service.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    soon("the goodbye", async { while kept.takes_calls().await {} }).await;
    kept.end().await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_holds_no_other_up_and_a_call_without_a_message_leaves_a_line_in_the_end() {
    let authority = Authority::new();
    let door = door(&authority, "COUNTERMAND_HANDSHAKE_TIMEOUT", "1h").await;
    let _silent = TcpStream::connect(door.service.address).await.unwrap();
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let half = console.start_without_a_message(&[]).await;
    // Calls of a connection are taken up in their order.
    door.cancel(&console, &[]).await.is_let_in(CONSOLE, "client-certificate", &["console"]);
    drop(half);
    let line = soon("its line", async {
        loop {
            if let Some(line) = door.service.audit_log().get(1) {
                break line.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let line = json!([line["caller"], line["name"], line["decision"], line["code"], line["upstream_status"]]);
    assert_eq!(line, json!([CONSOLE, null, null, "CANCELLED", null]));
    assert_eq!(door.upstream.seen().len(), 1);
}
