//! The requests that take a turn: each request that is sent, and no other.

use std::{collections::HashMap, time::Duration};

use countermand::proto::longrunning::ListOperationsRequest;
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use super::{ONE_IN_20_SECONDS, PLENTY, SECOND, decisions, get, name, pending, turns};
use crate::support::{
    grpc::{GET, PendingCall, by_name},
    metrics::Scrape,
    raw_upstream,
    reply::Reply,
    service::Setup,
    tls::Authority,
    upstream::Upstream,
    with_timeout,
};

#[tokio::test]
async fn without_a_section_no_query_is_paced() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    for status in join_all((0..100).map(|id| get(&wire, id, 10 * SECOND))).await {
        assert_eq!(status.code(), Code::Ok);
    }
    assert_eq!(upstream.requests().len(), 100);
    let page = Scrape::of(service.admin).await;
    assert!(!page.text.contains("\ncountermand_quota_queries_total{"), "{}", page.text);
}

#[tokio::test]
async fn the_section_of_another_project_paces_no_query() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let quota = format!("project = \"another-1\"\n{ONE_IN_20_SECONDS}");
    let service = Setup::of(&upstream).quota(&quota).start().await;
    let wire = service.wire().await;
    for status in join_all((0..20).map(|id| get(&wire, id, 10 * SECOND))).await {
        assert_eq!(status.code(), Code::Ok);
    }
    assert_eq!(upstream.requests().len(), 20);
}

#[tokio::test]
async fn each_retry_takes_a_turn() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("60s").quota(PLENTY).start().await;
    let busy = || Reply::plain_error(503, "UNAVAILABLE", "Busy.");
    upstream.answers([busy(), busy(), Reply::ok()]);
    service.cancel(&name(1)).await.unwrap();
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(turns(&service, "cancel").await, 3.0);
}

#[tokio::test]
async fn a_request_that_the_upstream_did_not_process_takes_another_turn() {
    let authority = Authority::new();
    let upstream = Upstream::start_http2(&authority, 10).await;
    let service = Setup::of(&upstream).ca(&authority.pem()).timeout("60s").quota(PLENTY).start().await;
    upstream.answers([Reply::stream_reset(h2::Reason::REFUSED_STREAM), Reply::ok()]);
    service.cancel(&name(1)).await.unwrap();
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(turns(&service, "cancel").await, 2.0);
}

#[tokio::test]
async fn the_repeat_after_a_rejected_token_takes_a_turn() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("60s").quota(PLENTY).start().await;
    upstream.answers([Reply::plain_error(401, "UNAUTHENTICATED", "Expired."), Reply::ok()]);
    service.cancel(&name(1)).await.unwrap();
    assert_eq!((upstream.requests().len(), upstream.token_requests()), (2, 2));
    assert_eq!(turns(&service, "cancel").await, 2.0);
}

/// The outcome of a retry without a turn is the error of the try before it.
#[tokio::test]
async fn a_retry_without_a_turn_leaves_the_cause() {
    let upstream = Upstream::start().await;
    let service =
        Setup::of(&upstream).timeout("60s").quota("limit = 2\nperiod = \"600s\"\nburst = 1").start().await;
    upstream.answers([Reply::plain_error(503, "UNAVAILABLE", "Busy.")]);
    let status = service.cancel(&name(1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "Busy."));
    assert_eq!(turns(&service, "cancel").await, 1.0);
    assert_eq!(decisions(&service, "cancel", "refused").await, 1.0);
}

/// A request is hedged after a tenth of `upstream.timeout`: here after 2 s, so that the first cancel is not.
#[tokio::test]
async fn a_hedge_takes_a_turn() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("20s").quota(PLENTY).start().await;
    upstream.answers([Reply::ok(), Reply::hanging(), Reply::ok()]);
    service.cancel(&name(1)).await.unwrap();
    service.cancel(&name(2)).await.unwrap();
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(turns(&service, "cancel").await, 3.0);
    let page = Scrape::of(service.admin).await;
    assert_eq!(page.value("countermand_retries_total", &["kind=\"hedge\""]), 1.0);
}

#[tokio::test]
async fn without_a_turn_for_its_hedge_a_request_goes_on() {
    let upstream = Upstream::start().await;
    let quota = "limit = 3\nperiod = \"60s\"\nburst = 2";
    let service = Setup::of(&upstream).timeout("20s").quota(quota).start().await;
    let (slow, gate) = Reply::ok().held();
    upstream.answers([Reply::ok(), slow]);
    service.cancel(&name(1)).await.unwrap();
    let opening = async {
        with_timeout("the refusal of the hedge", async {
            while decisions(&service, "cancel", "refused").await < 1.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        gate.open();
    };
    let second = name(2);
    let (result, ()) = tokio::join!(service.cancel(&second), opening);
    result.unwrap();
    assert_eq!(upstream.requests().len(), 2);
    let lines = service.audit_log();
    assert_eq!(json!([lines[1]["code"], lines[1]["attempts"]]), json!(["OK", 1]));
    let page = Scrape::of(service.admin).await;
    assert_eq!(page.value("countermand_retries_total", &["kind=\"hedge\""]), 0.0);
}

#[tokio::test]
async fn a_shared_or_cached_answer_takes_no_turn() {
    let upstream = Upstream::start().await;
    let done = json!({"name": name(1), "done": true, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}});
    let (done, gate) = Reply::json(200, &done).held();
    upstream.answers([done]);
    let service = Setup::of(&upstream).quota(PLENTY).start().await;
    let wire = service.wire().await;
    let mut calls = Vec::new();
    for _ in 0..10 {
        calls.push(wire.start_raw(GET, &[], &by_name(&name(1))).await);
    }
    wire.wait_until_received().await;
    gate.open();
    for call in calls {
        assert_eq!(call.response().await.code(), Code::Ok);
    }
    for _ in 0..10 {
        assert_eq!(get(&wire, 1, 10 * SECOND).await.code(), Code::Ok);
    }
    assert_eq!((upstream.requests().len(), turns(&service, "read").await), (1, 1.0));
}

#[tokio::test]
async fn a_call_that_is_not_sent_takes_no_turn() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream)
        .credentials(&[("emea", "enterprises = [\"LC01\"]", &upstream)])
        .quota(PLENTY)
        .start()
        .await;
    let other = service.cancel("enterprises/LC02/devices/d1/operations/1").await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);
    let request = ListOperationsRequest {
        name: "enterprises/LC01/devices/d1".to_owned(),
        filter: "&".repeat(22_000),
        ..Default::default()
    };
    let too_long = with_timeout("a response", service.client().list_operations(request)).await.unwrap_err();
    assert_eq!(too_long.code(), Code::InvalidArgument);
    for class in ["cancel", "read", "poll"] {
        assert_eq!(turns(&service, class).await, 0.0, "{class}");
    }
}

#[tokio::test]
async fn a_call_without_a_token_takes_no_turn() {
    let upstream = Upstream::start().await;
    upstream.always_answers_for_tokens(Reply::plain_error(503, "UNAVAILABLE", "No token."));
    let service = Setup::of(&upstream).quota(PLENTY).start_without_token().await;
    let status = service.cancel(&name(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(turns(&service, "cancel").await, 0.0);
}

/// The connection is refused before the request is sent. The turn is spent, because the connection is made after it.
#[tokio::test]
async fn a_request_without_a_connection_takes_a_turn_for_each_try() {
    let tokens = Upstream::start().await;
    let (_socket, address) = raw_upstream::refusing_address();
    let setup = Setup::with_token_endpoint(&tokens, &format!("http://{address}"));
    let service = setup.quota(PLENTY).start().await;
    let status = service.cancel(&name(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(turns(&service, "cancel").await, 4.0);
}

/// While the upstream does not respond, more requests have their turns than there are slots. They do not leave together
/// when the upstream responds again.
#[tokio::test]
async fn a_request_that_waits_long_for_a_slot_takes_another_turn() {
    const SLOTS: usize = 256;
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let upstream = Upstream::start_http2(&authority, 1000).await;
    let (reply, gate) = Reply::ok().held();
    upstream.always_answers(reply);
    let setup = Setup::with_token_endpoint(&tokens, upstream.url()).ca(&authority.pem()).timeout("1h");
    // 300 cancels leave at once, then one in 6 seconds.
    let setup = setup.quota("limit = 310\nperiod = \"60s\"\nburst = 300").max_concurrent_calls(1000);
    let service = setup.start().await;
    let wires = [service.wire().await, service.wire().await, service.wire().await, service.wire().await];
    let mut calls = Vec::new();
    for id in 0..300 {
        let [(header, value)] = super::timeout(20 * SECOND);
        calls.push(wires[id % wires.len()].start(&name(id), &[(header, &*value)]).await);
    }
    upstream.wait_for_requests(SLOTS).await;
    for wire in &wires {
        wire.wait_until_received().await;
    }
    tokio::time::sleep(2 * SECOND).await;
    gate.open();
    let mut codes = HashMap::new();
    for response in join_all(calls.into_iter().map(PendingCall::response)).await {
        *codes.entry(response.code()).or_insert(0) += 1;
    }
    let late = upstream.requests().len() - SLOTS;
    assert!(late <= 10, "{late} of 44 left within their deadline of 20 seconds");
    assert_eq!(codes[&Code::Ok], SLOTS + late);
}
