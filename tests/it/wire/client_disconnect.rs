//! Clients that disconnect before the response. The service completes a sent cancel and writes its outcome to the audit
//! log. It stops a wait: the audit line of the wait shows the tests that the service has noticed the disconnect.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    support::{
        grpc::{PendingCall, WAIT, Wire, by_name},
        reply::{Gate, Reply},
        service::{Service, Setup},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// A client with a cancel in flight, and a wait for another operation.
struct ClientCalls {
    wire: Wire,
    wait: PendingCall,
    cancel: PendingCall,
}

/// Starts both calls and returns when the upstream has received them. The gate delays the first response to the cancel.
async fn start(upstream: &Upstream, service: &Service, later: Vec<Reply>) -> (ClientCalls, Gate) {
    let (busy, gate) = Reply::plain_error(503, "UNAVAILABLE", "Busy.").held();
    upstream.answers([Reply::hanging(), busy].into_iter().chain(later));
    let wire = service.wire().await;
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
    upstream.wait_for_requests(1).await;
    let cancel = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(2).await;
    (ClientCalls { wire, wait, cancel }, gate)
}

/// The fields of an audit line that describe the upstream call.
fn upstream_fields(line: &Value) -> Value {
    json!([line["name"], line["decision"], line["attempts"], line["upstream_status"], line["shared"]])
}

#[tokio::test]
async fn a_cancel_whose_stream_is_reset_is_completed_with_its_retries() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let busy = Reply::plain_error(503, "UNAVAILABLE", "Busy.");
    let (ClientCalls { wire, wait, cancel }, gate) =
        start(&upstream, &service, vec![busy, Reply::ok()]).await;
    drop(cancel);
    drop(wait);
    let waited = service.audit_line("WaitOperation", "CANCELLED").await;
    assert_eq!(waited["decision"], "allow");
    assert_eq!(service.audit_log().len(), 1, "the outcome of the cancel is not known yet");
    gate.open();
    let cancelled = service.audit_line("CancelOperation", "OK").await;
    assert_eq!(upstream_fields(&cancelled), json!([NAME, "allow", 3, 200, null]));
    assert_eq!(service.audit_log().len(), 2);
    drop(wire);
}

#[tokio::test]
async fn a_cancel_whose_connection_is_closed_is_completed() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let not_found = Reply::plain_error(404, "NOT_FOUND", "Gone.");
    let (ClientCalls { wire, wait: _wait, cancel: _cancel }, gate) =
        start(&upstream, &service, vec![not_found]).await;
    wire.disconnect();
    service.audit_line("WaitOperation", "CANCELLED").await;
    gate.open();
    let cancelled = service.audit_line("CancelOperation", "NOT_FOUND").await;
    assert_eq!(upstream_fields(&cancelled), json!([NAME, "allow", 2, 404, null]));
}

#[tokio::test]
async fn an_outcome_after_the_deadline_of_the_disconnected_client_is_recorded() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([Reply::hanging(), ok]);
    let wire = service.wire().await;
    let timeout = [("grpc-timeout", "1S")];
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
    upstream.wait_for_requests(1).await;
    let (disconnected, connected) = (wire.start(NAME, &timeout).await, wire.start(NAME, &timeout).await);
    upstream.wait_for_requests(2).await;
    drop(disconnected);
    drop(wait);
    service.audit_line("WaitOperation", "CANCELLED").await;
    assert_eq!(connected.response().await.code(), Code::DeadlineExceeded);
    let late = service.audit_line("CancelOperation", "DEADLINE_EXCEEDED").await;
    assert_eq!(
        upstream_fields(&late),
        json!([NAME, "allow", 1, null, true]),
        "the request was sent and has no response yet"
    );
    gate.open();
    let cancelled = service.audit_line("CancelOperation", "OK").await;
    assert_eq!(upstream_fields(&cancelled), json!([NAME, "allow", 1, 200, null]));
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_token_is_completed() {
    let upstream = Upstream::start().await;
    let (token, gate) = Reply::token("t").held();
    upstream.answers_for_tokens([token]);
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).start_without_token().await;
    let wire = service.wire().await;
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
    let cancel = wire.start(NAME, &[]).await;
    wire.wait_until_received().await;
    drop(cancel);
    drop(wait);
    service.audit_line("WaitOperation", "CANCELLED").await;
    assert!(upstream.requests().is_empty());
    gate.open();
    let cancelled = service.audit_line("CancelOperation", "OK").await;
    assert_eq!(upstream_fields(&cancelled), json!([NAME, "allow", 1, 200, null]));
}

#[tokio::test]
async fn a_client_that_reconnects_joins_the_call_in_flight() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let (ClientCalls { wire, wait: _wait, cancel: _cancel }, gate) =
        start(&upstream, &service, vec![Reply::ok()]).await;
    wire.disconnect();
    service.audit_line("WaitOperation", "CANCELLED").await;
    let wire = service.wire().await;
    let again = wire.start(NAME, &[]).await;
    wire.wait_until_received().await;
    gate.open();
    assert_eq!(again.response().await.code(), Code::Ok);
    assert_eq!(upstream.requests().len(), 3, "one request for the wait and two for the shared cancel");
    let mut shared: Vec<_> = service.audit_log().iter().map(upstream_fields).collect();
    shared.retain(|line| line[0] == NAME);
    shared.sort_by_key(|line| line[4].is_null());
    assert_eq!(shared, [json!([NAME, "allow", 2, 200, true]), json!([NAME, "allow", 2, 200, null])]);
}

#[tokio::test]
async fn a_cancel_without_a_client_holds_its_permit_until_it_completes() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).max_concurrent_calls(2).start().await;
    let (ClientCalls { wire, wait: _wait, cancel: _cancel }, gate) =
        start(&upstream, &service, vec![Reply::ok()]).await;
    wire.disconnect();
    service.audit_line("WaitOperation", "CANCELLED").await;
    let other = service.wire().await;
    let (held, held_gate) = Reply::ok().held();
    upstream.answers([held]);
    let second = other.start(&format!("{NAME}2"), &[]).await;
    assert_eq!(other.cancel("none", &[]).await.code(), Code::Unavailable, "the cancel still runs");
    gate.open();
    service.audit_line("CancelOperation", "OK").await;
    assert_eq!(other.cancel("none", &[]).await.code(), Code::InvalidArgument);
    held_gate.open();
    assert_eq!(second.response().await.code(), Code::Ok);
}

#[tokio::test]
async fn connected_clients_get_the_outcome_of_a_call_that_a_disconnected_client_started() {
    let upstream = Upstream::start().await;
    let (ok, ok_gate) = Reply::ok().held();
    let (not_found, not_found_gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    for (reply, gate, code) in [(ok, ok_gate, Code::Ok), (not_found, not_found_gate, Code::NotFound)] {
        let service = Setup::of(&upstream).start().await;
        let before = upstream.requests().len();
        upstream.answers([Reply::hanging(), reply]);
        let (leader, followers) = (service.wire().await, service.wire().await);
        let _wait = leader.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
        upstream.wait_for_requests(before + 1).await;
        let _leader_call = leader.start(NAME, &[]).await;
        upstream.wait_for_requests(before + 2).await;
        let follower_calls = [followers.start(NAME, &[]).await, followers.start(NAME, &[]).await];
        followers.wait_until_received().await;
        leader.disconnect();
        service.audit_line("WaitOperation", "CANCELLED").await;
        gate.open();
        for follower in follower_calls {
            assert_eq!(follower.response().await.code(), code);
        }
        assert_eq!(upstream.requests().len(), before + 2, "one request for the wait and one for the cancels");
        // The detached task of the disconnected client may write its line last.
        let lines = with_timeout("three audit lines", async {
            loop {
                let mut lines = service.audit_log();
                lines.retain(|line| line["name"] == NAME);
                if lines.len() == 3 {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(lines.iter().filter(|line| line["shared"] == true).count(), 2, "{lines:?}");
        assert!(lines.iter().all(|line| line["attempts"] == 1), "{lines:?}");
    }
}
