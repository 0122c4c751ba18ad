//! Bursts of calls to HTTP/2 upstreams with fewer streams than calls. No call fails.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use h2::Reason;
use tonic::Code;

use crate::{
    support::{
        http2_upstream::{Counts, Http2Limits, Http2Upstream},
        reply::Reply,
        service::{self, Setup},
        tls::{Authority, H2},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

const CONNECTIONS: usize = 5;

/// Cancels `calls` operations over several connections and asserts that every cancel is OK. The first cancel is alone,
/// because it opens the upstream connection.
async fn burst(limits: Http2Limits, calls: usize) -> Counts {
    let authority = Authority::new();
    let tokens = Upstream::start().await;
    let upstream = Http2Upstream::start(&authority, limits).await;
    let setup = Setup::with_token_endpoint(&tokens, &upstream.url).ca(&authority.pem());
    // The last calls of a burst wait for all others, which takes long on a busy machine.
    let service = setup.timeout("10m").start().await;

    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(service.connect().await);
    }
    let cancel = |n: usize| {
        let mut client = clients[n % CONNECTIONS].clone();
        async move {
            let name = format!("enterprises/LC01/devices/d{n}/operations/{n}");
            service::cancel(&mut client, &name).await
        }
    };
    let first = with_timeout("the first response", cancel(0)).await;
    let mut results = with_timeout("every response", join_all((1..calls).map(cancel))).await;
    results.push(first);
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {calls} failed, the first: {:?}", failed.len(), failed[0]);
    let counts = upstream.counts();
    assert_eq!(counts.answered, calls, "{counts:?}");
    counts
}

const LATENCY: Duration = Duration::from_millis(10);

#[tokio::test]
async fn two_thousand_calls_succeed_with_a_hundred_streams() {
    let limits =
        Http2Limits { announced_streams: 100, accepted_streams: 100, goaway_after: None, latency: LATENCY };
    let counts = burst(limits, 2000).await;
    assert!(counts.max_open <= 100, "{counts:?}");
    assert_eq!(counts.connections, 1, "one connection is enough: {counts:?}");
}

#[tokio::test]
async fn refused_streams_are_retried() {
    // The upstream announces more streams than it accepts, so that it always refuses some.
    let limits =
        Http2Limits { announced_streams: 100, accepted_streams: 10, goaway_after: None, latency: LATENCY };
    let counts = burst(limits, 300).await;
    assert!(counts.refused > 0, "{counts:?}");
}

#[tokio::test]
async fn three_hundred_calls_succeed_with_ten_streams() {
    let limits =
        Http2Limits { announced_streams: 10, accepted_streams: 10, goaway_after: None, latency: LATENCY };
    burst(limits, 300).await;
}

#[tokio::test]
async fn connections_that_send_goaway_lose_no_call() {
    let limits = Http2Limits {
        announced_streams: 100,
        accepted_streams: 100,
        goaway_after: Some(25),
        latency: LATENCY,
    };
    let counts = burst(limits, 200).await;
    assert!(counts.connections >= 200 / 25, "{counts:?}");
}

#[tokio::test]
async fn a_stream_reset_does_not_delay_other_requests() {
    const OTHERS: usize = 8;
    // The time for which requests queue behind a connecting request.
    const QUEUE_TIME: Duration = Duration::from_millis(200);
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let upstream = Upstream::start_tls(&authority, &[H2]).await;
    let setup = Setup::with_token_endpoint(&tokens, upstream.url()).ca(&authority.pem());
    let service = setup.start().await;
    let wire = service.wire().await;
    upstream.answers([Reply::ok()]);
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);

    // A slow machine may be slow in some rounds, so the fastest round counts.
    let mut fastest = Duration::MAX;
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::CANCEL] {
        let (ok, gate) = Reply::ok().held();
        upstream.answers([Reply::stream_reset(reason)].into_iter().chain(vec![ok; 1 + OTHERS]));
        let before = upstream.requests().len();
        let mut calls = vec![wire.start(NAME, &[]).await];
        // The retry is in flight before the other calls start.
        upstream.wait_for_requests(before + 2).await;
        let start = Instant::now();
        for id in 0..OTHERS {
            calls.push(wire.start(&format!("{NAME}{id}"), &[]).await);
        }
        upstream.wait_for_requests(before + 2 + OTHERS).await;
        fastest = fastest.min(start.elapsed());
        gate.open();
        for call in calls {
            assert_eq!(call.response().await.code(), Code::Ok, "{reason}");
        }
    }
    assert!(fastest < QUEUE_TIME, "{fastest:?}");
    assert_eq!(upstream.connections(), 1);
}
