//! More calls than there are places for.

use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    support::{details::assert_ours_with_retry, reply::Reply, service::Setup, soon, upstream::Upstream},
    wire::NAME,
};

#[tokio::test]
async fn what_is_too_much_is_refused_at_once_while_health_answers_and_calls_in_flight_finish() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok.clone(), ok]);
    let service = Setup::of(&upstream).places(2).start().await;
    let wire = service.wire().await;
    let first = wire.start(&format!("{NAME}1"), &[]).await;
    let second = wire.start(&format!("{NAME}2"), &[]).await;
    upstream.has_seen(2).await;

    for _ in 0..3 {
        let status = service.cancel(NAME).await.unwrap_err();
        assert_ours_with_retry(&status, Code::Unavailable, "OVERLOADED", 1);
    }
    let mut health = HealthClient::new(service.channel());
    for service in ["", "google.longrunning.Operations"] {
        let request = Request::new(HealthCheckRequest { service: service.to_owned() });
        let answer = soon("health", health.check(request)).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    }

    gate.open();
    assert_eq!(first.answer().await.code(), Code::Ok);
    assert_eq!(second.answer().await.code(), Code::Ok);
    upstream.answers([Reply::ok()]);
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn the_places_are_those_of_all_connections_together() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).places(1).start().await;
    let started = service.wire().await;
    let started = started.start(NAME, &[]).await;
    upstream.has_seen(1).await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_ours_with_retry(&status, Code::Unavailable, "OVERLOADED", 1);
    gate.open();
    assert_eq!(started.answer().await.code(), Code::Ok);
}
