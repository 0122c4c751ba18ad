//! Callers who reset their calls: those who only do that are cut off, those who lose patience are not.

use countermand::server::Drained;
use tonic::Code;

use crate::{
    support::{
        raw_client::{CANCEL, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, frame},
        reply::Reply,
        service::{Service, Setup},
        soon,
        upstream::Upstream,
    },
    wire::NAME,
};

async fn start(upstream: &Upstream) -> Service {
    let setup = Setup::of(upstream).variable("COUNTERMAND_MAX_RESETS_PER_WINDOW", "50");
    setup.variable("COUNTERMAND_MAX_PENDING_RESETS", "20").start().await
}

/// Another caller, who is none the worse.
async fn is_served(service: &Service) {
    assert_eq!(service.wire().await.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_raw_call_is_answered() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = start(&upstream).await;
    let mut raw = Raw::open(service.address).await;
    let (_, frames) = raw.call(17);
    raw.send(&frames).await;
    soon("the answer", async { while raw.read().await.unwrap().0 != HEADERS {} }).await;
    upstream.has_seen(1).await;
}

#[tokio::test]
async fn calls_that_are_reset_at_once_cut_the_caller_off() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = start(&upstream).await;
    // All at once, so that they are reset before they are looked at (CVE-2023-44487).
    let raw = Raw::open(service.address).await;
    let reason = raw.until_cut_off(|raw| {
        let burst = (0..100).map(|id| {
            let (stream, frames) = raw.call(id);
            [frames, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        });
        burst.collect::<Vec<_>>().concat()
    });
    assert_eq!(reason.await, Some(ENHANCE_YOUR_CALM));
    is_served(&service).await;
}

#[tokio::test]
async fn calls_that_are_reset_soon_cut_the_caller_off_too() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    // Each is looked at before its reset comes, with the next one.
    let raw = Raw::open(service.address).await;
    let mut last = None;
    let mut begun = 0;
    raw.until_cut_off(|raw| {
        begun += 1;
        assert!(begun < 1000, "it goes on for ever");
        let (stream, frames) = raw.call(begun);
        let reset = last.replace(stream).map(|last| frame(RST_STREAM, 0, last, &CANCEL.to_be_bytes()));
        [reset.unwrap_or_default(), frames].concat()
    })
    .await;
    assert!(begun > 50, "{begun}: it is cut off within its limit");
    upstream.always_answers(Reply::ok());
    is_served(&service).await;
}

#[tokio::test]
async fn calls_that_the_server_is_made_to_reset_cut_the_caller_off() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    // A window update of nothing is an error of the stream (RFC 9113, section 6.9; CVE-2025-8671).
    let raw = Raw::open(service.address).await;
    let mut begun = 0;
    raw.until_cut_off(|raw| {
        begun += 1;
        assert!(begun < 1000, "it goes on for ever");
        let (stream, frames) = raw.call(begun);
        [frames, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    })
    .await;
    upstream.always_answers(Reply::ok());
    is_served(&service).await;
}

#[tokio::test]
async fn a_proxy_whose_callers_give_up_together_after_a_while_is_not_cut_off() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    let wire = service.wire().await;
    let mut calls = Vec::new();
    for id in 0..100 {
        calls.push(wire.start(&format!("{NAME}{id}"), &[]).await);
    }
    upstream.has_seen(100).await;
    // What is reset within a second of its begin counts.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    drop(calls);
    upstream.always_answers(Reply::ok());
    assert_eq!(wire.cancel(&format!("{NAME}999"), &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn the_limit_holds_during_a_drain() {
    const RESETS: usize = 30;
    let upstream = Upstream::start().await;
    let (held, gate) = Reply::ok().held();
    upstream.answers([Reply::ok()]);
    upstream.always_answers(held);
    let setup = Setup::of(&upstream).variable("COUNTERMAND_MAX_RESETS_PER_WINDOW", "20");
    let service = setup.variable("COUNTERMAND_DRAIN_TIMEOUT", "1h").start().await;
    // Requests wait for the first response before they connect.
    is_served(&service).await;
    let mut raw = Raw::open(service.address).await;
    let (_, in_flight) = raw.call(0);
    raw.send(&in_flight).await;
    upstream.has_seen(2).await;

    let drain = tokio::spawn(service.drain());
    soon("GOAWAY", async { while raw.read().await.unwrap().0 != GOAWAY {} }).await;
    // The server accepts streams until the client acknowledges the PING after GOAWAY, which this client never does.
    // So the calls are young enough for their resets to count.
    let (streams, calls): (Vec<_>, Vec<_>) = (1..=RESETS).map(|id| raw.call(id)).unzip();
    raw.send(&calls.concat()).await;
    upstream.has_seen(2 + RESETS).await;
    let resets = streams.iter().map(|stream| frame(RST_STREAM, 0, *stream, &CANCEL.to_be_bytes()));
    raw.send(&resets.collect::<Vec<_>>().concat()).await;
    soon("the end of the connection", async { while raw.read().await.is_some() {} }).await;

    assert!(!drain.is_finished(), "the upstream holds what it was asked");
    gate.open();
    assert_eq!(soon("the end of the drain", drain).await.unwrap(), Drained::Complete);
}
