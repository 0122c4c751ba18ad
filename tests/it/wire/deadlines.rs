//! The end of a call's time. The client here sets no timer of its own, so that the answer is the server's.

use tonic::Code;

use crate::{
    support::{details::assert_ours, reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

#[tokio::test]
async fn the_callers_deadline_is_told_by_the_server() {
    for hanging in [Reply::hanging(), Reply::plain_error(500, "INTERNAL", "").hanging_in_the_body()] {
        let upstream = Upstream::start().await;
        upstream.answers([hanging]);
        let service = Setup::of(&upstream).timeout("1h").start().await;
        let wire = service.wire().await;
        let started = wire.start(NAME, &[("grpc-timeout", "200m")]).await;
        upstream.has_seen(1).await;
        let status = started.answer().await.status();
        assert_ours(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(status.message(), "the deadline passed before the upstream answered");
    }
}

#[tokio::test]
async fn the_upstreams_timeout_bounds_a_call_that_says_nothing_or_more() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = Setup::of(&upstream).timeout("200ms").start().await;
    let wire = service.wire().await;
    for (operation, headers) in
        [("1", &[][..]), ("2", &[("grpc-timeout", "1H")]), ("3", &[("grpc-timeout", "99999999H")])]
    {
        let answer = wire.cancel(&format!("{NAME}{operation}"), headers).await;
        assert_ours(&answer.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn retries_end_with_the_deadline() {
    let upstream = Upstream::start().await;
    let busy = Reply::plain_error(503, "UNAVAILABLE", "Busy.");
    upstream.answers([busy, Reply::hanging()]);
    let service = Setup::of(&upstream).timeout("1h").start().await;
    let wire = service.wire().await;
    let started = wire.start(NAME, &[("grpc-timeout", "1S")]).await;
    upstream.has_seen(2).await;
    assert_ours(&started.answer().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let answer = service.wire().await.cancel(NAME, &[("grpc-timeout", "0n")]).await;
    assert_ours(&answer.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_malformed_timeout_is_the_callers_fault() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    for timeout in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "soon"] {
        let answer = wire.cancel(NAME, &[("grpc-timeout", timeout)]).await;
        assert_ours(&answer.status(), Code::InvalidArgument, "INVALID_GRPC_TIMEOUT");
    }
}
