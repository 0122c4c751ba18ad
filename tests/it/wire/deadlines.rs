//! Deadlines. The client sets no timer of its own, so the server ends the call.

use tonic::Code;

use crate::{
    support::{details::assert_our_error, reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

#[tokio::test]
async fn the_server_ends_a_call_at_the_callers_deadline() {
    for hanging in [Reply::hanging(), Reply::plain_error(500, "INTERNAL", "").with_hanging_body()] {
        let upstream = Upstream::start().await;
        upstream.answers([hanging]);
        let service = Setup::of(&upstream).timeout("1h").start().await;
        let wire = service.wire().await;
        let started = wire.start(NAME, &[("grpc-timeout", "200m")]).await;
        upstream.wait_for_requests(1).await;
        let status = started.response().await.status();
        assert_our_error(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(status.message(), "the deadline passed before the upstream answered");
    }
}

#[tokio::test]
async fn the_upstream_timeout_ends_a_call_without_a_shorter_deadline() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::hanging());
    let service = Setup::of(&upstream).timeout("200ms").start().await;
    let wire = service.wire().await;
    for (operation, headers) in
        [("1", &[][..]), ("2", &[("grpc-timeout", "1H")]), ("3", &[("grpc-timeout", "99999999H")])]
    {
        let response = wire.cancel(&format!("{NAME}{operation}"), headers).await;
        assert_our_error(&response.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn retries_end_at_the_deadline() {
    let upstream = Upstream::start().await;
    let busy = Reply::plain_error(503, "UNAVAILABLE", "Busy.");
    upstream.answers([busy, Reply::hanging()]);
    let service = Setup::of(&upstream).timeout("1h").start().await;
    let wire = service.wire().await;
    let started = wire.start(NAME, &[("grpc-timeout", "1S")]).await;
    upstream.wait_for_requests(2).await;
    assert_our_error(&started.response().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_is_not_sent() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let response = service.wire().await.cancel(NAME, &[("grpc-timeout", "0n")]).await;
    assert_our_error(&response.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_malformed_grpc_timeout_is_invalid() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    for timeout in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "soon"] {
        let response = wire.cancel(NAME, &[("grpc-timeout", timeout)]).await;
        assert_our_error(&response.status(), Code::InvalidArgument, "INVALID_GRPC_TIMEOUT");
    }
}
