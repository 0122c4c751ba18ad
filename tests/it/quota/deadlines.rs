//! Calls that wait for their turn inside their deadline, and calls whose turn comes too late.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use super::{
    ONE_IN_20_SECONDS, ONE_IN_200_SECONDS, SECOND, assert_over_budget, decisions, get, name, pending,
};
use crate::support::{collector::Collector, grpc::Wire, reply::Reply, service::Setup, upstream::Upstream};

#[tokio::test]
async fn a_call_waits_for_its_turn_inside_its_deadline() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.always_answers(pending());
    let service = Setup::of(&upstream)
        .quota("limit = 4\nperiod = \"1s\"\nburst = 2")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .variable("OTEL_BSP_SCHEDULE_DELAY", "10")
        .start()
        .await;
    let wire = service.wire().await;
    let start = Instant::now();
    for status in join_all((0..6).map(|id| get(&wire, id, 10 * SECOND))).await {
        assert_eq!(status.code(), Code::Ok, "{status:?}");
    }
    // At 2 a second, after one that leaves at once.
    assert!(start.elapsed() >= 2 * SECOND, "{:?}", start.elapsed());
    let lines = service.audit_log();
    assert!(lines.iter().all(|line| line["code"] == "OK" && line["attempts"] == 1), "{lines:?}");
    let (immediate, delayed) =
        (decisions(&service, "read", "immediate").await, decisions(&service, "read", "delayed").await);
    assert_eq!(immediate + delayed, 6.0);
    assert!(delayed >= 1.0, "{delayed}");

    let spans = collector.calls(6).await;
    let waits: Vec<_> = spans.iter().filter(|span| span.name == "quota").collect();
    assert_eq!(waits.len() as f64, delayed, "a query that waited has a span");
    assert!(waits.iter().all(|span| !crate::support::collector::has_error(span)), "{waits:?}");
}

#[tokio::test]
async fn a_call_whose_turn_comes_too_late_is_refused_at_once() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let service = Setup::of(&upstream).quota(ONE_IN_200_SECONDS).start().await;
    let wire = service.wire().await;
    spend_the_reads(&wire).await;
    let start = Instant::now();
    for id in 10..20 {
        let status = get(&wire, id, 10 * SECOND).await;
        assert_over_budget(&status, 150 * SECOND..=200 * SECOND);
    }
    assert!(start.elapsed() < 15 * SECOND, "{:?}", start.elapsed());
    assert_eq!(upstream.requests().len(), 2);
    let refused = service.audit_log().into_iter().find(|line| line["name"] == name(10)).unwrap();
    let fields = json!([refused["decision"], refused["code"], refused["attempts"]]);
    assert_eq!(fields, json!(["allow", "RESOURCE_EXHAUSTED", null]));
    assert_eq!(decisions(&service, "read", "refused").await, 10.0);

    // A cancel has the rest of the burst.
    upstream.answers([Reply::ok()]);
    service.cancel(&name(1)).await.unwrap();
}

/// Each call that waits is a turn later for the next.
#[tokio::test]
async fn the_time_of_the_turn_counts_the_calls_that_wait() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let service = Setup::of(&upstream).quota(ONE_IN_20_SECONDS).start().await;
    let wire = service.wire().await;
    spend_the_reads(&wire).await;
    let [(header, value)] = super::timeout(30 * SECOND);
    let message = crate::support::grpc::by_name(&name(3));
    let waiting = wire.start_raw(crate::support::grpc::GET, &[(header, &value)], &message).await;
    wire.wait_until_received().await;
    let status = get(&wire, 4, 30 * SECOND).await;
    assert_over_budget(&status, 25 * SECOND..=40 * SECOND);
    drop(waiting);
}

/// Sends the two gets that may leave at once.
async fn spend_the_reads(wire: &Wire) {
    for id in [1, 2] {
        assert_eq!(get(wire, id, 10 * SECOND).await.code(), Code::Ok);
    }
}
