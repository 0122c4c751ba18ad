//! A caller that goes before its answer: what it asked for is carried through, and recorded with the outcome
//! that nobody was told. A wait is not carried on: by its line the tests see that the service has noticed.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    support::{
        grpc::{Started, WAIT, Wire, by_name},
        reply::{Gate, Reply},
        service::{Service, Setup},
        soon,
        upstream::Upstream,
    },
    wire::NAME,
};

/// One who cancels, and waits for another operation meanwhile.
struct Caller {
    wire: Wire,
    wait: Started,
    cancel: Started,
}

/// Begins both calls; the upstream has them when this returns, and holds the first answer to each back.
async fn begin(upstream: &Upstream, service: &Service, then: Vec<Reply>) -> (Caller, Gate) {
    let (busy, gate) = Reply::plain_error(503, "UNAVAILABLE", "Busy.").held();
    upstream.answers([Reply::hanging(), busy].into_iter().chain(then));
    let wire = service.wire().await;
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
    upstream.has_seen(1).await;
    let cancel = wire.start(NAME, &[]).await;
    upstream.has_seen(2).await;
    (Caller { wire, wait, cancel }, gate)
}

fn upstream(line: &Value) -> Value {
    json!([line["name"], line["decision"], line["attempts"], line["upstream_status"], line["shared"]])
}

#[tokio::test]
async fn a_call_that_is_reset_is_carried_through_its_retries() {
    let google = Upstream::start().await;
    let service = Setup::of(&google).start().await;
    let busy = Reply::plain_error(503, "UNAVAILABLE", "Busy.");
    let (Caller { wire, wait, cancel }, gate) = begin(&google, &service, vec![busy, Reply::ok()]).await;
    drop(cancel);
    drop(wait);
    let waited = service.recorded("WaitOperation", "CANCELLED").await;
    assert_eq!(waited["decision"], "allow");
    assert_eq!(service.audit_log().len(), 1, "the outcome of the cancel is not known yet");
    gate.open();
    let cancelled = service.recorded("CancelOperation", "OK").await;
    assert_eq!(upstream(&cancelled), json!([NAME, "allow", 3, 200, null]));
    assert_eq!(service.audit_log().len(), 2);
    drop(wire);
}

#[tokio::test]
async fn a_call_whose_connection_is_lost_is_carried_through() {
    let google = Upstream::start().await;
    let service = Setup::of(&google).start().await;
    let not_found = Reply::plain_error(404, "NOT_FOUND", "Gone.");
    let (Caller { wire, wait: _wait, cancel: _cancel }, gate) =
        begin(&google, &service, vec![not_found]).await;
    wire.hang_up();
    service.recorded("WaitOperation", "CANCELLED").await;
    gate.open();
    let cancelled = service.recorded("CancelOperation", "NOT_FOUND").await;
    assert_eq!(upstream(&cancelled), json!([NAME, "allow", 2, 404, null]));
}

#[tokio::test]
async fn the_outcome_is_recorded_though_it_comes_after_the_deadline_of_who_hung_up() {
    let google = Upstream::start().await;
    let service = Setup::of(&google).start().await;
    let (ok, gate) = Reply::ok().held();
    google.answers([Reply::hanging(), ok]);
    let wire = service.wire().await;
    let timeout = [("grpc-timeout", "1S")];
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
    google.has_seen(1).await;
    let (gone, stays) = (wire.start(NAME, &timeout).await, wire.start(NAME, &timeout).await);
    google.has_seen(2).await;
    drop(gone);
    drop(wait);
    service.recorded("WaitOperation", "CANCELLED").await;
    assert_eq!(stays.answer().await.code(), Code::DeadlineExceeded);
    let late = service.recorded("CancelOperation", "DEADLINE_EXCEEDED").await;
    assert_eq!(upstream(&late), json!([NAME, "allow", 1, null, true]), "sent, and not answered yet");
    gate.open();
    let cancelled = service.recorded("CancelOperation", "OK").await;
    assert_eq!(upstream(&cancelled), json!([NAME, "allow", 1, 200, null]));
}

#[tokio::test]
async fn a_call_that_waits_for_a_token_is_carried_through() {
    let google = Upstream::start().await;
    let (token, gate) = Reply::token("t").held();
    google.answers_for_tokens([token]);
    google.always_answers(Reply::ok());
    let service = Setup::of(&google).start_without_token().await;
    let wire = service.wire().await;
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
    let cancel = wire.start(NAME, &[]).await;
    wire.taken_up().await;
    drop(cancel);
    drop(wait);
    service.recorded("WaitOperation", "CANCELLED").await;
    assert!(google.seen().is_empty());
    gate.open();
    let cancelled = service.recorded("CancelOperation", "OK").await;
    assert_eq!(upstream(&cancelled), json!([NAME, "allow", 1, 200, null]));
}

#[tokio::test]
async fn a_caller_who_comes_back_joins_the_call_that_it_left() {
    let google = Upstream::start().await;
    let service = Setup::of(&google).start().await;
    let (Caller { wire, wait: _wait, cancel: _cancel }, gate) =
        begin(&google, &service, vec![Reply::ok()]).await;
    wire.hang_up();
    service.recorded("WaitOperation", "CANCELLED").await;
    let wire = service.wire().await;
    let again = wire.start(NAME, &[]).await;
    wire.taken_up().await;
    gate.open();
    assert_eq!(again.answer().await.code(), Code::Ok);
    assert_eq!(google.seen().len(), 3, "the wait's one, and two for the cancel that both share");
    let mut shared: Vec<_> = service.audit_log().iter().map(upstream).collect();
    shared.retain(|line| line[0] == NAME);
    shared.sort_by_key(|line| line[4].is_null());
    assert_eq!(shared, [json!([NAME, "allow", 2, 200, true]), json!([NAME, "allow", 2, 200, null])]);
}

#[tokio::test]
async fn a_call_holds_its_place_until_it_has_ended() {
    let google = Upstream::start().await;
    let service = Setup::of(&google).places(2).start().await;
    let (Caller { wire, wait: _wait, cancel: _cancel }, gate) =
        begin(&google, &service, vec![Reply::ok()]).await;
    wire.hang_up();
    service.recorded("WaitOperation", "CANCELLED").await;
    let other = service.wire().await;
    let (hanging, hung) = Reply::ok().held();
    google.answers([hanging]);
    let second = other.start(&format!("{NAME}2"), &[]).await;
    assert_eq!(other.cancel("none", &[]).await.code(), Code::Unavailable, "the cancel still runs");
    gate.open();
    service.recorded("CancelOperation", "OK").await;
    assert_eq!(other.cancel("none", &[]).await.code(), Code::InvalidArgument);
    hung.open();
    assert_eq!(second.answer().await.code(), Code::Ok);
}

#[tokio::test]
async fn callers_who_stay_get_the_outcome_of_the_call_that_a_caller_who_left_began() {
    let google = Upstream::start().await;
    let (ok, ok_gate) = Reply::ok().held();
    let (not_found, not_found_gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    for (reply, gate, code) in [(ok, ok_gate, Code::Ok), (not_found, not_found_gate, Code::NotFound)] {
        let service = Setup::of(&google).start().await;
        let before = google.seen().len();
        google.answers([Reply::hanging(), reply]);
        let (leaves, stays) = (service.wire().await, service.wire().await);
        let _wait = leaves.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/1")).await;
        google.has_seen(before + 1).await;
        let _leader = leaves.start(NAME, &[]).await;
        google.has_seen(before + 2).await;
        let followers = [stays.start(NAME, &[]).await, stays.start(NAME, &[]).await];
        stays.taken_up().await;
        leaves.hang_up();
        service.recorded("WaitOperation", "CANCELLED").await;
        gate.open();
        for follower in followers {
            assert_eq!(follower.answer().await.code(), code);
        }
        assert_eq!(google.seen().len(), before + 2, "one request for the wait and one for the cancels");
        // The task of the caller who left may write its line last.
        let lines = soon("three audit lines", async {
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
