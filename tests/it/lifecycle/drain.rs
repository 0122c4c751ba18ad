//! The drain after SIGTERM and SIGINT, with calls in flight.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{self, SIGINT, SIGTERM};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic_health::pb::health_check_response::ServingStatus::NotServing;

use crate::{
    lifecycle::{
        caller::{Watcher, begin, begin_held, cancel, health},
        google::Google,
        service::Service,
    },
    support::process::eventually,
};

/// The first bytes of an HTTP/2 client (RFC 9113, section 3.4): the preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The test connects for this period after the signal. The service accepts new connections for one second.
const CONNECT_PERIOD: Duration = Duration::from_millis(500);

/// A refusal before this time is an error. A later one is possible on a machine that stalls.
const MIN_ACCEPT_PERIOD: Duration = Duration::from_millis(800);

#[tokio::test]
async fn sigterm_drains() {
    drains_on(SIGTERM).await;
}

#[tokio::test]
async fn sigint_drains() {
    drains_on(SIGINT).await;
}

#[tokio::test]
async fn calls_are_served_during_the_drain_delay_while_readiness_is_gone() {
    let google = Google::start().await;
    let service =
        Service::start_with(&google, |command| _ = command.env("COUNTERMAND_DRAIN_DELAY", "1h")).await;
    let mut watcher = Watcher::of(service.address, "").await;
    watcher.serving().await;
    service.process.signal(SIGTERM);
    assert_eq!(watcher.next().await, Some(NotServing));
    service.not_ready(&["draining: send no new calls"]).await;
    // The service accepts connections far longer than without a delay.
    tokio::time::sleep(2 * CONNECT_PERIOD + MIN_ACCEPT_PERIOD).await;
    cancel(service.address, 1).await.unwrap();
    // The second signal ends the delay and the drain.
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("\"code\":\"OK\""), "{}", ended.stdout);
}

#[tokio::test]
async fn the_drain_follows_the_drain_delay() {
    let google = Google::start().await;
    let service =
        Service::start_with(&google, |command| _ = command.env("COUNTERMAND_DRAIN_DELAY", "1s")).await;
    service.ready().await;
    let signalled = Instant::now();
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(signalled.elapsed() >= Duration::from_secs(1));
    assert!(ended.stderr.contains("draining after a delay delay_ms=1000"), "{}", ended.stderr);
}

async fn drains_on(signal: Signal) {
    let google = Google::start().await;
    let service =
        Service::start_with(&google, |command| _ = command.env("COUNTERMAND_DRAIN_TIMEOUT", "20s")).await;
    let mut watcher = Watcher::of(service.address, "").await;
    watcher.serving().await;
    // Neither client closes its connection: one sends nothing, the other does not read.
    let _silent = TcpStream::connect(service.address).await.unwrap();
    let mut not_reading = TcpStream::connect(service.address).await.unwrap();
    not_reading.write_all(PREFACE).await.unwrap();
    let in_flight = begin_held(&google, service.address).await;

    let signalled = Instant::now();
    service.process.signal(signal);
    assert_eq!(watcher.next().await, Some(NotServing), "NOT_SERVING at once, while calls are accepted");
    while signalled.elapsed() < CONNECT_PERIOD {
        let status = health(service.address, "").await;
        assert!(status.is_ok_and(|status| status == NotServing) || signalled.elapsed() >= MIN_ACCEPT_PERIOD);
    }
    let late = begin(service.address, 2);
    let accepted = eventually("the late call is accepted or refused", async || {
        let arrived = google.seen().authorizations.len() == 2;
        (arrived || late.is_finished()).then_some(arrived)
    })
    .await;
    assert!(accepted || signalled.elapsed() >= MIN_ACCEPT_PERIOD, "a new call was refused too early");
    assert_eq!(watcher.next().await, None, "the watcher's stream ends");
    service.not_ready(&["draining"]).await;
    assert_eq!(service.get("/livez").await.0, 200);

    eventually("new connections are refused", async || TcpStream::connect(service.address).await.err()).await;
    assert!(!in_flight.is_finished(), "the response is held");
    google.release();
    in_flight.await.unwrap().unwrap();
    if accepted {
        late.await.unwrap().unwrap();
    }
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains(": drained\n"), "{ended:?}");
    assert!(signalled.elapsed() < Duration::from_secs(20));
}
