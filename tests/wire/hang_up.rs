//! A caller that goes before its answer: what it asked for is carried through.

use tonic::Code;

use crate::{
    NAME,
    support::{
        grpc::{Started, Wire},
        reply::Reply,
        service::{Service, Setup},
        soon,
        upstream::Upstream,
    },
};

/// Starts a cancel, lets `go` end it once the upstream has it, and waits until the service has noticed:
/// its one place is free again.
async fn asked_and_gone(upstream: &Upstream, service: &Service, go: impl FnOnce(Wire, Started)) {
    let other = service.wire().await;
    let caller = service.wire().await;
    let started = caller.start(NAME, &[]).await;
    upstream.has_seen(1).await;
    assert_eq!(other.cancel("none", &[]).await.code(), Code::Unavailable, "the place is taken");
    go(caller, started);
    place_is_free(&other).await;
}

/// Waits until a call of the one place that there is has been let go.
async fn place_is_free(wire: &Wire) {
    soon("the place to be free", async {
        while wire.cancel("none", &[]).await.code() != Code::InvalidArgument {}
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_reset_is_carried_through_its_retries() {
    let upstream = Upstream::start().await;
    let (busy, gate) = Reply::plain_error(503, "UNAVAILABLE", "Busy.").held();
    upstream.answers([busy.clone(), Reply::plain_error(503, "UNAVAILABLE", "Busy."), Reply::ok()]);
    let service = Setup::of(&upstream).places(1).start().await;
    let mut kept = None;
    asked_and_gone(&upstream, &service, |caller, started| {
        drop(started);
        kept = Some(caller);
    })
    .await;
    gate.open();
    upstream.has_seen(3).await;
    drop(kept);
}

#[tokio::test]
async fn a_call_whose_connection_is_lost_is_carried_through() {
    let upstream = Upstream::start().await;
    let (busy, gate) = Reply::plain_error(503, "UNAVAILABLE", "Busy.").held();
    upstream.answers([busy, Reply::ok()]);
    let service = Setup::of(&upstream).places(1).start().await;
    asked_and_gone(&upstream, &service, |caller, _| caller.hang_up()).await;
    gate.open();
    upstream.has_seen(2).await;
}

#[tokio::test]
async fn a_call_that_waits_for_a_token_is_carried_through() {
    let upstream = Upstream::start().await;
    let (token, gate) = Reply::token("t").held();
    upstream.answers_for_tokens([token]);
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).places(1).start_without_token().await;
    let (caller, other) = (service.wire().await, service.wire().await);
    let started = caller.start(NAME, &[]).await;
    // Later on the same connection, so that the place is taken if the first has arrived.
    assert_eq!(caller.cancel("none", &[]).await.code(), Code::Unavailable);
    drop(started);
    place_is_free(&other).await;
    assert!(upstream.seen().is_empty());
    gate.open();
    upstream.has_seen(1).await;
}

#[tokio::test]
async fn a_caller_who_comes_back_joins_the_call_that_it_left() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).places(1).start().await;
    asked_and_gone(&upstream, &service, |caller, _| caller.hang_up()).await;
    let wire = service.wire().await;
    let again = wire.start(NAME, &[]).await;
    assert_eq!(wire.cancel("none", &[]).await.code(), Code::Unavailable, "it waits");
    gate.open();
    assert_eq!(again.answer().await.code(), Code::Ok);
    assert_eq!(upstream.seen().len(), 1);
}
