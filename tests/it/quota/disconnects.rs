//! Callers that disconnect while their calls wait for a turn.

use countermand::proto::longrunning::ListOperationsRequest;
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::{ONE_IN_20_SECONDS, SECOND, a_poll_waits, decisions, get, name, pending, turns, wait_message};
use crate::support::{
    grpc::{GET, LIST, PendingCall, WAIT, Wire, by_name},
    process::eventually,
    reply::Reply,
    service::{Service, Setup},
    upstream::Upstream,
};

/// A service whose reads and cancels must wait.
async fn start(upstream: &Upstream) -> (Service, Wire) {
    upstream.answers([pending(), pending()]);
    let service = Setup::of(upstream).quota(ONE_IN_20_SECONDS).start().await;
    let wire = service.wire().await;
    for id in [1, 2] {
        assert_eq!(get(&wire, id, 10 * SECOND).await.code(), Code::Ok);
    }
    (service, wire)
}

/// Starts a call that waits for its turn.
async fn queue(wire: &Wire, path: &str, message: &[u8]) -> PendingCall {
    let call = wire.start_raw(path, &[], message).await;
    wire.wait_until_received().await;
    call
}

async fn abandoned(service: &Service, class: &str, count: f64) {
    eventually("the query leaves the queue", async || {
        (decisions(service, class, "abandoned").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_read_leaves_the_queue_with_its_caller() {
    let upstream = Upstream::start().await;
    let (service, wire) = start(&upstream).await;
    let list = ListOperationsRequest { name: "enterprises/LC01/devices/d3".to_owned(), ..Default::default() };
    let calls =
        [(GET, by_name(&name(3))), (LIST, list.encode_to_vec()), (WAIT, wait_message(4, 60 * SECOND))];
    let mut left = 0.0;
    for (path, message) in calls {
        let call = queue(&wire, path, &message).await;
        drop(call);
        left += 1.0;
        abandoned(&service, "read", left).await;
    }
    for method in ["GetOperation", "ListOperations", "WaitOperation"] {
        let line = service.audit_line(method, "CANCELLED").await;
        assert_eq!(json!([line["decision"], line["attempts"]]), json!(["allow", null]));
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_read_that_another_caller_has_joined_stays_in_the_queue() {
    let upstream = Upstream::start().await;
    let (service, wire) = start(&upstream).await;
    let first = queue(&wire, GET, &by_name(&name(3))).await;
    let second = queue(&wire, GET, &by_name(&name(3))).await;
    drop(first);
    // The reset arrives before this call.
    wire.wait_until_received().await;
    assert_eq!(decisions(&service, "read", "abandoned").await, 0.0);
    drop(second);
    abandoned(&service, "read", 1.0).await;
}

/// A cancel has an effect, so it is sent also without its caller.
#[tokio::test]
async fn a_cancel_stays_in_the_queue() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok(), Reply::ok()]);
    let service = Setup::of(&upstream).quota("limit = 2\nperiod = \"3s\"\nburst = 1").start().await;
    let wire = service.wire().await;
    assert_eq!(wire.cancel(&name(1), &[]).await.code(), Code::Ok);
    let waiting = wire.start(&name(2), &[]).await;
    wire.wait_until_received().await;
    drop(waiting);
    upstream.wait_for_requests(2).await;
    let lines = eventually("the line of the cancel", async || {
        Some(service.audit_log()).filter(|log| log.iter().any(|line| line["name"] == name(2)))
    })
    .await;
    let line = lines.iter().find(|line| line["name"] == name(2)).unwrap();
    assert_eq!(json!([line["code"], line["attempts"]]), json!(["OK", 1]));
    assert_eq!(turns(&service, "cancel").await, 2.0);
}

/// The poll of a device leaves the queue with the last waiter.
#[tokio::test]
async fn a_poll_leaves_the_queue_with_its_waiters() {
    let upstream = Upstream::start().await;
    upstream.answers([pending()]);
    let service = Setup::of(&upstream)
        .quota("limit = 2\nperiod = \"18s\"\nburst = 1")
        .variable("COUNTERMAND_POLLING_MIN_INTERVAL", "100ms")
        .start()
        .await;
    let wire = service.wire().await;
    let waiting = wire.start_raw(WAIT, &[], &wait_message(1, 60 * SECOND)).await;
    a_poll_waits(&service).await;
    assert_eq!(upstream.requests().len(), 1);
    drop(waiting);
    abandoned(&service, "poll", 1.0).await;
    assert_eq!(upstream.requests().len(), 1);
}
