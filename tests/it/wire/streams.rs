//! Bursts against HTTP/2 upstreams that allow less than the burst: nobody's call fails for it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use h2::Reason;
use tonic::Code;

use crate::{
    support::{
        frames::{Http2Upstream, Rules, Tally},
        reply::Reply,
        service::{self, Setup},
        soon,
        tls::{Authority, H2},
        upstream::Upstream,
    },
    wire::NAME,
};

const CONNECTIONS: usize = 5;

/// Cancels `calls` different operations, the first alone and the others at once, over several connections; every
/// one must be OK. The first meets the upstream: how long a cold burst waits for that is a matter of time.
async fn burst(rules: Rules, calls: usize) -> Tally {
    let authority = Authority::new();
    let tokens = Upstream::start().await;
    let upstream = Http2Upstream::start(&authority, rules).await;
    let service = Setup::with_tokens_of(&tokens, &upstream.url).ca(&authority.pem()).start().await;

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
    let first = soon("the first answer", cancel(0)).await;
    let mut answers = soon("every answer", join_all((1..calls).map(cancel))).await;
    answers.push(first);
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {calls} failed, the first: {:?}", failed.len(), failed[0]);
    let tally = upstream.tally();
    assert_eq!(tally.answered, calls, "{tally:?}");
    tally
}

const LATENCY: Duration = Duration::from_millis(10);

#[tokio::test]
async fn two_thousand_calls_pass_through_a_hundred_streams() {
    let rules = Rules { announced: 100, taken: 100, goes_away_after: None, latency: LATENCY };
    let tally = burst(rules, 2000).await;
    assert!(tally.most_open <= 100, "{tally:?}");
    assert_eq!(tally.connections, 1, "one connection is enough: {tally:?}");
}

#[tokio::test]
async fn streams_that_are_refused_are_asked_for_again() {
    // It announces more than it takes, so that refusals do not depend on who is first.
    let rules = Rules { announced: 100, taken: 10, goes_away_after: None, latency: LATENCY };
    let tally = burst(rules, 300).await;
    assert!(tally.refused > 0, "{tally:?}");
}

#[tokio::test]
async fn ten_streams_are_enough() {
    let rules = Rules { announced: 10, taken: 10, goes_away_after: None, latency: LATENCY };
    burst(rules, 300).await;
}

#[tokio::test]
async fn connections_that_go_away_lose_no_call() {
    let rules = Rules { announced: 100, taken: 100, goes_away_after: Some(25), latency: LATENCY };
    let tally = burst(rules, 200).await;
    assert!(tally.connections >= 200 / 25, "{tally:?}");
}

#[tokio::test]
async fn the_reset_of_one_stream_makes_no_other_request_wait() {
    const OTHERS: usize = 8;
    // As long as requests queue behind one that connects.
    const QUEUE: Duration = Duration::from_millis(200);
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let upstream = Upstream::start_tls(&authority, &[H2]).await;
    let setup = Setup::with_tokens_of(&tokens, upstream.url()).ca(&authority.pem());
    let service = setup.start().await;
    let wire = service.wire().await;
    upstream.answers([Reply::ok()]);
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);

    // A busy machine is slow in some of the rounds.
    let mut fastest = Duration::MAX;
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::CANCEL] {
        let (ok, gate) = Reply::ok().held();
        upstream.answers([Reply::stream_reset(reason)].into_iter().chain(vec![ok; 1 + OTHERS]));
        let before = upstream.seen().len();
        let mut calls = vec![wire.start(NAME, &[]).await];
        // The retry is in flight when the others come.
        upstream.has_seen(before + 2).await;
        let began = Instant::now();
        for id in 0..OTHERS {
            calls.push(wire.start(&format!("{NAME}{id}"), &[]).await);
        }
        upstream.has_seen(before + 2 + OTHERS).await;
        fastest = fastest.min(began.elapsed());
        gate.open();
        for call in calls {
            assert_eq!(call.answer().await.code(), Code::Ok, "{reason}");
        }
    }
    assert!(fastest < QUEUE, "{fastest:?}");
    assert_eq!(upstream.connections(), 1);
}
