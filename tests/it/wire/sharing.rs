//! Identical cancels in flight share one upstream call.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::{GOOGLE_DOMAIN, assert_our_error, assert_status, error_info},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
    wire::NAME,
};

const CALLERS: usize = 50;

#[tokio::test]
async fn fifty_callers_get_the_outcome_of_one_upstream_call() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    let (not_found, other_gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    upstream.answers([ok, not_found]);
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;

    for (gate, code) in [(gate, Code::Ok), (other_gate, Code::NotFound)] {
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(wire.start(NAME, &[]).await);
        }
        wire.wait_until_received().await;
        gate.open();
        for caller in callers {
            let response = caller.response().await;
            match code {
                Code::Ok => assert_eq!(response.code(), code),
                _ => assert_status(
                    &response.status(),
                    code,
                    "Gone.",
                    vec![error_info(GOOGLE_DOMAIN, "NOT_FOUND")],
                ),
            }
        }
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn cancels_of_different_operations_are_not_shared() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).start().await;
    let names = [
        "enterprises/LC01/devices/d1/operations/1",
        "enterprises/LC01/devices/d1/operations/2",
        "enterprises/LC01/devices/d2/operations/1",
        "enterprises/LC02/devices/d1/operations/1",
        "enterprises/lc01/devices/d1/operations/1",
    ];
    let results = join_all(names.map(|name| service.cancel(name))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut paths: Vec<_> = upstream.requests().into_iter().map(|call| call.path).collect();
    paths.sort_unstable();
    let mut want = names.map(|name| format!("/v1/{name}:cancel"));
    want.sort_unstable();
    assert_eq!(paths, want);
}

#[tokio::test]
async fn a_later_cancel_is_sent_upstream_again() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::plain_error(404, "NOT_FOUND", "Not yet."), Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::NotFound);
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn a_callers_deadline_does_not_end_the_shared_call() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).timeout("1h").start().await;
    let wire = service.wire().await;
    let short = wire.start(NAME, &[("grpc-timeout", "1S")]).await;
    upstream.wait_for_requests(1).await;
    let long = wire.start(NAME, &[]).await;
    wire.wait_until_received().await;
    assert_our_error(&short.response().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    gate.open();
    assert_eq!(long.response().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_caller_that_joins_late_extends_the_time_for_retries() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([Reply::hanging(), ok]);
    let service = Setup::of(&upstream).timeout("2s").start().await;
    let wire = service.wire().await;
    let early = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    // The attempt fails after 2 s. Then the deadline of the early caller has passed, and the late caller has a second
    // left.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let late = wire.start(NAME, &[("grpc-timeout", "60S")]).await;
    assert_our_error(&early.response().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    upstream.wait_for_requests(2).await;
    gate.open();
    assert_eq!(late.response().await.code(), Code::Ok);
    let line = service.audit_line("CancelOperation", "OK").await;
    assert_eq!(json!([line["shared"], line["attempts"], line["upstream_status"]]), json!([true, 2, 200]));
    let line = service.audit_line("CancelOperation", "DEADLINE_EXCEEDED").await;
    assert_eq!(json!([line["shared"], line["attempts"], line["upstream_status"]]), json!([null, 1, null]));
}
