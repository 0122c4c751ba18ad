//! Calls over `server.max_concurrent_calls`.

use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    support::{
        details::assert_our_error_with_retry, reply::Reply, service::Setup, upstream::Upstream, with_timeout,
    },
    wire::NAME,
};

#[tokio::test]
async fn calls_over_the_limit_are_refused_while_health_checks_and_calls_in_flight_are_answered() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok.clone(), ok]);
    let service = Setup::of(&upstream).max_concurrent_calls(2).start().await;
    let wire = service.wire().await;
    let first = wire.start(&format!("{NAME}1"), &[]).await;
    let second = wire.start(&format!("{NAME}2"), &[]).await;
    upstream.wait_for_requests(2).await;

    for _ in 0..3 {
        let status = service.cancel(NAME).await.unwrap_err();
        assert_our_error_with_retry(&status, Code::Unavailable, "OVERLOADED", 1);
    }
    let mut health = HealthClient::new(service.channel());
    for service in ["", "google.longrunning.Operations"] {
        let request = Request::new(HealthCheckRequest { service: service.to_owned() });
        let response = with_timeout("a health response", health.check(request)).await.unwrap();
        assert_eq!(response.get_ref().status(), ServingStatus::Serving);
    }

    gate.open();
    assert_eq!(first.response().await.code(), Code::Ok);
    assert_eq!(second.response().await.code(), Code::Ok);
    upstream.answers([Reply::ok()]);
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn the_limit_applies_to_all_connections_together() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).max_concurrent_calls(1).start().await;
    let started = service.wire().await;
    let started = started.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error_with_retry(&status, Code::Unavailable, "OVERLOADED", 1);
    gate.open();
    assert_eq!(started.response().await.code(), Code::Ok);
}
