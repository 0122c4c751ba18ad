//! SIGTERM and SIGINT while there is work: the drain, as callers and the operator see it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{self, SIGINT, SIGTERM};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic_health::pb::health_check_response::ServingStatus::NotServing;

use crate::{
    lifecycle::{
        caller::{Watcher, begin, begin_held, health},
        google::Google,
        service::Service,
    },
    support::process::eventually,
};

/// What a client of HTTP/2 says first (RFC 9113, section 3.4): the preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// New connections are taken for a second after the signal: for how long to try, and until when a refusal
/// comes too early. It may come later than that only on a machine that stalls.
const TRIES: Duration = Duration::from_millis(500);
const SURELY_TAKEN: Duration = Duration::from_millis(800);

#[tokio::test]
async fn sigterm_drains() {
    drains_on(SIGTERM).await;
}

#[tokio::test]
async fn sigint_drains() {
    drains_on(SIGINT).await;
}

async fn drains_on(signal: Signal) {
    let google = Google::start().await;
    let service =
        Service::start_with(&google, |command| _ = command.env("COUNTERMAND_DRAIN_TIMEOUT", "20s")).await;
    let mut watcher = Watcher::of(service.address, "").await;
    watcher.serving().await;
    // Neither of these will ever close by itself: one says nothing, the other does not read.
    let _mute = TcpStream::connect(service.address).await.unwrap();
    let mut deaf = TcpStream::connect(service.address).await.unwrap();
    deaf.write_all(PREFACE).await.unwrap();
    let in_flight = begin_held(&google, service.address).await;

    let signalled = Instant::now();
    service.process.signal(signal);
    assert_eq!(watcher.next().await, Some(NotServing), "at once, while calls are still taken");
    while signalled.elapsed() < TRIES {
        let taken = health(service.address, "").await;
        assert!(taken.is_ok_and(|says| says == NotServing) || signalled.elapsed() >= SURELY_TAKEN);
    }
    let late = begin(service.address, 2);
    let taken = eventually("the late call is taken or refused", async || {
        let arrived = google.seen().authorizations.len() == 2;
        (arrived || late.is_finished()).then_some(arrived)
    })
    .await;
    assert!(taken || signalled.elapsed() >= SURELY_TAKEN, "a new call was refused within the grace");
    assert_eq!(watcher.next().await, None, "the watcher's stream ends");
    service.not_ready(&["draining"]).await;
    assert_eq!(service.get("/livez").await.0, 200);

    eventually("new connections are refused", async || TcpStream::connect(service.address).await.err()).await;
    assert!(!in_flight.is_finished(), "its answer is still held back");
    google.release();
    in_flight.await.unwrap().unwrap();
    if taken {
        late.await.unwrap().unwrap();
    }
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains(": drained\n"), "{ended:?}");
    assert!(signalled.elapsed() < Duration::from_secs(20));
}
