//! A drain with calls of every outcome in flight.

use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;
use tonic::Code;

use crate::{
    access::{
        CONSOLE, NAME,
        fixture::permit_only,
        program::{ConfigDir, ConfigFiles, Program},
    },
    support::{
        issuer::{Key, key_set},
        reply::Reply,
        tls::{Authority, uri},
        tls_client::TlsClient,
        upstream::Upstream,
    },
};

#[tokio::test]
async fn calls_of_every_outcome_during_a_drain_are_audited() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    let (not_found, not_found_gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    upstream.answers([ok, not_found]);
    let (authority, key) = (Authority::new(), Key::ec());
    let policy = permit_only(&[("console", CONSOLE)]);
    let keys = key_set([key.jwk(Some("a"))]);
    let files = ConfigFiles { pair: &authority.server(), clients: &authority, keys: &keys, policy: &policy };
    let program = ConfigDir::new(&upstream, &files).serve().await;
    let client = TlsClient::new(&authority, Some(&authority.client(vec![uri(CONSOLE)])));
    let (console, _) = client.open(program.address).await;
    let unix = program.wire_by_unix().await;
    let in_flight = console.start(&format!("{NAME}1"), &[]).await;
    upstream.wait_for_requests(1).await;
    let (hanging_up, _) = client.open(program.address).await;
    let _call = hanging_up.start(&format!("{NAME}2"), &[]).await;
    upstream.wait_for_requests(2).await;

    let denied = unix.cancel(&format!("{NAME}3"), &[]).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
    let unauthenticated = unix.cancel(&format!("{NAME}4"), &[("authorization", "Bearer x")]).await;
    assert_eq!(unauthenticated.code(), Code::Unauthenticated);

    program.process.signal(SIGTERM);
    program.process.stderr.has("draining").await;
    hanging_up.disconnect();
    gate.open();
    not_found_gate.open();
    assert_eq!(in_flight.response().await.code(), Code::Ok);
    drop((console, unix));
    let audit_log = program.dir.file("audit.jsonl");
    let Program { process, dir: _dir, .. } = program;
    assert_eq!(process.end().await.code, Some(0));
    let log = std::fs::read_to_string(audit_log).unwrap();
    let mut codes: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, ["NOT_FOUND", "OK", "PERMISSION_DENIED", "UNAUTHENTICATED"], "{log}");
}
