use futures_util::{FutureExt, StreamExt};
use tonic::Code;

use super::*;

fn health(serving: Serving) -> (watch::Sender<Serving>, Health) {
    let (sender, serving) = watch::channel(serving);
    (sender, Health { serving })
}

fn request(service: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: service.to_owned() })
}

async fn checked(health: &Health, service: &str) -> Result<ServingStatus, Code> {
    let checked = health.check(request(service)).await;
    checked.map(|response| response.get_ref().status()).map_err(|status| status.code())
}

type Watch = <Health as HealthService>::WatchStream;

async fn watch(health: &Health, service: &str) -> Watch {
    health.watch(request(service)).await.unwrap().into_inner()
}

/// The next status, or `None` at the end of the watch. Panics when neither is available.
fn next_status(watch: &mut Watch) -> Option<ServingStatus> {
    let next = watch.next().now_or_never().expect("a status or the end");
    next.map(|response| response.unwrap().status())
}

fn assert_pending(watch: &mut Watch) {
    assert!(watch.next().now_or_never().is_none());
}

#[tokio::test]
async fn check_returns_the_state_of_both_services() {
    let (state, health) = health(Serving::NotReady);
    for (serving, want) in [
        (Serving::NotReady, ServingStatus::NotServing),
        (Serving::Ready, ServingStatus::Serving),
        (Serving::Draining, ServingStatus::NotServing),
    ] {
        state.send_replace(serving);
        for service in ["", "google.longrunning.Operations"] {
            assert_eq!(checked(&health, service).await, Ok(want), "{service:?} {serving:?}");
        }
        for service in ["google.longrunning", "grpc.health.v1.Health", "x"] {
            assert_eq!(checked(&health, service).await, Err(Code::NotFound), "{service:?}");
        }
    }
}

#[tokio::test]
async fn a_watch_sends_each_change_once_and_ends_in_a_drain() {
    for service in ["", "google.longrunning.Operations"] {
        let (state, health) = health(Serving::NotReady);
        let mut watch = watch(&health, service).await;
        assert_eq!(next_status(&mut watch), Some(ServingStatus::NotServing));
        assert_pending(&mut watch);
        state.send_replace(Serving::Ready);
        assert_eq!(next_status(&mut watch), Some(ServingStatus::Serving));
        state.send_replace(Serving::Ready);
        assert_pending(&mut watch);
        state.send_replace(Serving::Draining);
        assert_eq!(next_status(&mut watch), Some(ServingStatus::NotServing));
        assert_eq!(next_status(&mut watch), None);
    }
}

#[tokio::test]
async fn a_drain_wakes_a_waiting_watch() {
    let (state, health) = health(Serving::Ready);
    let watch = watch(&health, "").await;
    let sent = tokio::spawn(watch.map(|response| response.unwrap().status()).collect::<Vec<_>>());
    tokio::task::yield_now().await;
    state.send_replace(Serving::Draining);
    assert_eq!(sent.await.unwrap(), [ServingStatus::Serving, ServingStatus::NotServing]);
}

#[tokio::test]
async fn a_watch_at_not_serving_ends_in_a_drain_without_a_status() {
    let (state, health) = health(Serving::NotReady);
    let mut early = watch(&health, "").await;
    assert_eq!(next_status(&mut early), Some(ServingStatus::NotServing));
    state.send_replace(Serving::Draining);
    assert_eq!(next_status(&mut early), None);
    let mut late = watch(&health, "").await;
    assert_eq!(next_status(&mut late), Some(ServingStatus::NotServing));
    assert_eq!(next_status(&mut late), None);
}

#[tokio::test]
async fn an_unknown_service_stays_unknown_and_its_watch_ends_too() {
    let (state, health) = health(Serving::Ready);
    let mut watch = watch(&health, "x").await;
    assert_eq!(next_status(&mut watch), Some(ServingStatus::ServiceUnknown));
    state.send_replace(Serving::NotReady);
    assert_pending(&mut watch);
    state.send_replace(Serving::Draining);
    assert_eq!(next_status(&mut watch), None);
}

#[tokio::test]
async fn a_lost_sender_ends_a_watch_as_not_serving() {
    let (state, health) = health(Serving::Ready);
    let mut watch = watch(&health, "").await;
    assert_eq!(next_status(&mut watch), Some(ServingStatus::Serving));
    drop(state);
    assert_eq!(next_status(&mut watch), Some(ServingStatus::NotServing));
    assert_eq!(next_status(&mut watch), None);
}
