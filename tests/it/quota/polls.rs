//! Waits whose polls have little quota.

use std::{future::Future, time::Instant};

use tonic::Code;

use super::{
    ONE_IN_200_SECONDS, SECOND, a_poll_waits, assert_over_budget, decisions, get, pending, turns, wait,
    wait_message,
};
use crate::support::{
    grpc::{GET, WAIT, by_name},
    process::eventually,
    service::{Service, Setup},
    upstream::Upstream,
};

fn start(upstream: &Upstream, quota: &str) -> impl Future<Output = Service> {
    Setup::of(upstream).quota(quota).variable("COUNTERMAND_POLLING_MIN_INTERVAL", "100ms").start()
}

/// The poll of a waiting caller waits for its turn for 20 seconds. A get of the same operation joins it, and has a turn at
/// once.
#[tokio::test]
async fn a_call_that_joins_a_waiting_poll_makes_it_a_read() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    // The longest interval limits the time of a poll.
    let service = Setup::of(&upstream)
        .quota("limit = 4\nperiod = \"18s\"\nburst = 3")
        .variable("COUNTERMAND_POLLING_MIN_INTERVAL", "100ms")
        .start()
        .await;
    let wire = service.wire().await;
    let waiting = wire.start_raw(WAIT, &[], &wait_message(1, 60 * SECOND)).await;
    upstream.wait_for_requests(1).await;
    a_poll_waits(&service).await;
    assert_eq!((upstream.requests().len(), turns(&service, "poll").await), (1, 0.0), "the poll waits");

    let start = Instant::now();
    let get = wire.start_raw(GET, &[("grpc-timeout", "10S")], &by_name(&super::name(1))).await;
    assert_eq!(get.response().await.code(), Code::Ok);
    assert!(start.elapsed() < 15 * SECOND, "{:?}", start.elapsed());
    assert_eq!(upstream.requests().len(), 2, "the get and the poll are one request");
    assert_eq!((turns(&service, "read").await, turns(&service, "poll").await), (2.0, 0.0));
    drop(waiting);
}

#[tokio::test]
async fn a_wait_whose_polls_have_no_quota_ends_with_the_known_state() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let service = start(&upstream, "limit = 2\nperiod = \"100s\"\nburst = 1").await;
    let wire = service.wire().await;
    let start = Instant::now();
    assert_eq!(wait(&wire, 1, 2 * SECOND).await.code(), Code::Ok);
    assert!(start.elapsed() >= 2 * SECOND, "{:?}", start.elapsed());
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(decisions(&service, "poll", "refused").await, 1.0, "the next poll is after its turn");
}

#[tokio::test]
async fn a_wait_without_quota_for_its_first_get_is_refused_at_its_end() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let service = start(&upstream, ONE_IN_200_SECONDS).await;
    let wire = service.wire().await;
    for id in [1, 2] {
        assert_eq!(get(&wire, id, 10 * SECOND).await.code(), Code::Ok);
    }
    let start = Instant::now();
    let status = wait(&wire, 3, 2 * SECOND).await;
    assert!(start.elapsed() >= 2 * SECOND, "{:?}", start.elapsed());
    // The time of the turn, less the time of the wait.
    assert_over_budget(&status, 150 * SECOND..=198 * SECOND);
    assert_eq!(upstream.requests().len(), 2);
}

/// The first get of a wait has a turn after 2 seconds. The wait then goes on as without a quota.
#[tokio::test]
async fn a_wait_whose_turn_comes_in_time_is_answered() {
    let upstream = Upstream::start().await;
    upstream.answers([pending()]);
    upstream.always_answers(crate::support::reply::Reply::json(
        200,
        &serde_json::json!({"done": true, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}}),
    ));
    let service = start(&upstream, "limit = 4\nperiod = \"2s\"\nburst = 3").await;
    let wire = service.wire().await;
    assert_eq!(wait(&wire, 1, 30 * SECOND).await.code(), Code::Ok);
    let polled =
        eventually("the poll", async || Some(turns(&service, "poll").await).filter(|polls| *polls > 0.0))
            .await;
    assert_eq!(polled, 1.0);
}
