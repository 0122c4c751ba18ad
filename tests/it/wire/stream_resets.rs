//! Clients that reset streams. The service closes the connection of a client that resets too many young streams. It
//! keeps the connection of a client that resets old streams.

use countermand::server::Drained;
use tonic::Code;

use crate::{
    support::{
        raw_client::{
            CANCEL, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, RST_STREAM, RawClient, WINDOW_UPDATE, frame,
        },
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

async fn start(upstream: &Upstream) -> Service {
    let setup = Setup::of(upstream).variable("COUNTERMAND_MAX_RESETS_PER_WINDOW", "50");
    setup.variable("COUNTERMAND_MAX_PENDING_RESETS", "20").start().await
}

/// Asserts that another client still gets a response.
async fn assert_another_client_is_served(service: &Service) {
    assert_eq!(service.wire().await.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_raw_call_is_answered() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = start(&upstream).await;
    let mut raw = RawClient::open(service.address).await;
    let (_, frames) = raw.call_frames(17);
    raw.send(&frames).await;
    with_timeout("the response", async { while raw.read().await.unwrap().0 != HEADERS {} }).await;
    upstream.wait_for_requests(1).await;
}

#[tokio::test]
async fn a_client_that_resets_calls_before_they_start_is_disconnected() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = start(&upstream).await;
    // The calls and their resets are sent at once, so the server reads a reset before it starts the call
    // (CVE-2023-44487).
    let raw = RawClient::open(service.address).await;
    let error_code = raw.send_until_closed(|raw| {
        let burst = (0..100).map(|id| {
            let (stream, frames) = raw.call_frames(id);
            [frames, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        });
        burst.collect::<Vec<_>>().concat()
    });
    assert_eq!(error_code.await, Some(ENHANCE_YOUR_CALM));
    assert_another_client_is_served(&service).await;
}

#[tokio::test]
async fn a_client_that_resets_calls_after_they_start_is_disconnected() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    // The server starts each call before it reads the reset, which is sent with the next call.
    let raw = RawClient::open(service.address).await;
    let mut last = None;
    let mut started = 0;
    raw.send_until_closed(|raw| {
        started += 1;
        assert!(started < 1000, "the connection stays open");
        let (stream, frames) = raw.call_frames(started);
        let reset = last.replace(stream).map(|last| frame(RST_STREAM, 0, last, &CANCEL.to_be_bytes()));
        [reset.unwrap_or_default(), frames].concat()
    })
    .await;
    assert!(started > 50, "{started} calls are within the limit");
    upstream.always_answers(Reply::ok());
    assert_another_client_is_served(&service).await;
}

#[tokio::test]
async fn a_client_that_makes_the_server_reset_calls_is_disconnected() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    // A WINDOW_UPDATE with increment 0 is a stream error (RFC 9113, section 6.9; CVE-2025-8671).
    let raw = RawClient::open(service.address).await;
    let mut started = 0;
    raw.send_until_closed(|raw| {
        started += 1;
        assert!(started < 1000, "the connection stays open");
        let (stream, frames) = raw.call_frames(started);
        [frames, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    })
    .await;
    upstream.always_answers(Reply::ok());
    assert_another_client_is_served(&service).await;
}

#[tokio::test]
async fn a_proxy_that_resets_many_old_calls_at_once_stays_connected() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = start(&upstream).await;
    let wire = service.wire().await;
    let mut calls = Vec::new();
    for id in 0..100 {
        calls.push(wire.start(&format!("{NAME}{id}"), &[]).await);
    }
    upstream.wait_for_requests(100).await;
    // Only a reset within a second after the start of the call counts.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    drop(calls);
    upstream.always_answers(Reply::ok());
    assert_eq!(wire.cancel(&format!("{NAME}999"), &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn the_reset_limit_applies_during_a_drain() {
    const RESETS: usize = 30;
    let upstream = Upstream::start().await;
    let (held, gate) = Reply::ok().held();
    upstream.answers([Reply::ok()]);
    upstream.always_answers(held);
    let setup = Setup::of(&upstream).variable("COUNTERMAND_MAX_RESETS_PER_WINDOW", "20");
    let service = setup.variable("COUNTERMAND_DRAIN_TIMEOUT", "1h").start().await;
    // Until the first upstream response, other requests wait for the request that connects.
    assert_another_client_is_served(&service).await;
    let mut raw = RawClient::open(service.address).await;
    let (_, in_flight) = raw.call_frames(0);
    raw.send(&in_flight).await;
    upstream.wait_for_requests(2).await;

    let drain = tokio::spawn(service.drain());
    with_timeout("GOAWAY", async { while raw.read().await.unwrap().0 != GOAWAY {} }).await;
    // The server accepts streams until the client acknowledges the PING after GOAWAY, which this client never does.
    // So the calls are young enough for their resets to count.
    let (streams, calls): (Vec<_>, Vec<_>) = (1..=RESETS).map(|id| raw.call_frames(id)).unzip();
    raw.send(&calls.concat()).await;
    upstream.wait_for_requests(2 + RESETS).await;
    let resets = streams.iter().map(|stream| frame(RST_STREAM, 0, *stream, &CANCEL.to_be_bytes()));
    raw.send(&resets.collect::<Vec<_>>().concat()).await;
    with_timeout("the end of the connection", async { while raw.read().await.is_some() {} }).await;

    assert!(!drain.is_finished(), "requests are in flight at the upstream");
    gate.open();
    assert_eq!(with_timeout("the end of the drain", drain).await.unwrap(), Drained::Whole);
}
