//! Identical cancels in flight at the same time share one call upstream.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::{GOOGLES, assert_ours, assert_status, info},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
    wire::NAME,
};

const CALLERS: usize = 50;

#[tokio::test]
async fn fifty_callers_get_the_answer_of_one_call() {
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
        wire.taken_up().await;
        gate.open();
        for caller in callers {
            let answer = caller.answer().await;
            match code {
                Code::Ok => assert_eq!(answer.code(), code),
                _ => assert_status(&answer.status(), code, "Gone.", vec![info(GOOGLES, "NOT_FOUND")]),
            }
        }
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn callers_of_different_operations_share_nothing() {
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
    let answers = join_all(names.map(|name| service.cancel(name))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let mut paths: Vec<_> = upstream.seen().into_iter().map(|call| call.path).collect();
    paths.sort_unstable();
    let mut want = names.map(|name| format!("/v1/{name}:cancel"));
    want.sort_unstable();
    assert_eq!(paths, want);
}

#[tokio::test]
async fn an_answer_is_not_kept_for_who_comes_later() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::plain_error(404, "NOT_FOUND", "Not yet."), Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::NotFound);
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn one_callers_deadline_ends_its_own_waiting_only() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).timeout("1h").start().await;
    let wire = service.wire().await;
    let hurried = wire.start(NAME, &[("grpc-timeout", "1S")]).await;
    upstream.has_seen(1).await;
    let patient = wire.start(NAME, &[]).await;
    wire.taken_up().await;
    assert_ours(&hurried.answer().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    gate.open();
    assert_eq!(patient.answer().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_caller_who_joins_late_brings_time_for_another_attempt() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([Reply::hanging(), ok]);
    let service = Setup::of(&upstream).timeout("2s").start().await;
    let wire = service.wire().await;
    let early = wire.start(NAME, &[]).await;
    upstream.has_seen(1).await;
    // The attempt fails after 2 s, when the early caller's time is over and the late caller has a second left.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let late = wire.start(NAME, &[("grpc-timeout", "60S")]).await;
    assert_ours(&early.answer().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    upstream.has_seen(2).await;
    gate.open();
    assert_eq!(late.answer().await.code(), Code::Ok);
    let line = service.recorded("CancelOperation", "OK").await;
    assert_eq!(json!([line["shared"], line["attempts"], line["upstream_status"]]), json!([true, 2, 200]));
    let line = service.recorded("CancelOperation", "DEADLINE_EXCEEDED").await;
    assert_eq!(json!([line["shared"], line["attempts"], line["upstream_status"]]), json!([null, 1, null]));
}
