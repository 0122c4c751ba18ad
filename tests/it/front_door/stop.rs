//! The end of the program, while callers of every kind are there.

use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;
use tonic::Code;

use crate::{
    front_door::{
        CONSOLE, NAME,
        program::{Files, Program, Room},
        visit::only,
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
async fn calls_of_every_outcome_that_a_stop_meets_are_recorded() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    let (gone, gone_gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    upstream.answers([ok, gone]);
    let (authority, key) = (Authority::new(), Key::ec());
    let policy = only(&[("console", CONSOLE)]);
    let keys = key_set([key.jwk(Some("a"))]);
    let files = Files { pair: &authority.server(), clients: &authority, keys: &keys, policy: &policy };
    let program = Room::new(&upstream, &files).serve().await;
    let client = TlsClient::new(&authority, Some(&authority.client(vec![uri(CONSOLE)])));
    let (console, _) = client.open(program.address).await;
    let unix = program.wire_by_unix().await;
    let waits = console.start(&format!("{NAME}1"), &[]).await;
    upstream.has_seen(1).await;
    let (impatient, _) = client.open(program.address).await;
    let _never_heard = impatient.start(&format!("{NAME}2"), &[]).await;
    upstream.has_seen(2).await;

    let denied = unix.cancel(&format!("{NAME}3"), &[]).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
    let unknown = unix.cancel(&format!("{NAME}4"), &[("authorization", "Bearer x")]).await;
    assert_eq!(unknown.code(), Code::Unauthenticated);

    program.process.signal(SIGTERM);
    program.process.stderr.has("draining").await;
    impatient.hang_up();
    gate.open();
    gone_gate.open();
    assert_eq!(waits.answer().await.code(), Code::Ok);
    drop((console, unix));
    let audit_log = program.room.file("audit.jsonl");
    let Program { process, room: _room, .. } = program;
    assert_eq!(process.end().await.code, Some(0));
    let log = std::fs::read_to_string(audit_log).unwrap();
    let mut codes: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, ["NOT_FOUND", "OK", "PERMISSION_DENIED", "UNAUTHENTICATED"], "{log}");
}
