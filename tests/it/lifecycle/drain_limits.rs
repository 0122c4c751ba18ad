//! What may hold the process after a signal, and what may not.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use tokio::{net::TcpStream, time::timeout};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    lifecycle::{
        caller::{begin_held, connect},
        google::Google,
        service::Service,
    },
    support::process::{LIMIT, eventually},
};

/// By when even a loaded machine has carried out what takes no time.
const SLACK: Duration = Duration::from_secs(5);

async fn start(google: &Google, drain_timeout: &str) -> Service {
    let timeout = |command: &mut tokio::process::Command| {
        command.env("COUNTERMAND_DRAIN_TIMEOUT", drain_timeout);
    };
    let service = Service::start_with(google, timeout).await;
    service.ready().await;
    service
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_does_not_hold_the_process() {
    let google = Google::start().await;
    let service = start(&google, "1s").await;
    let in_flight = begin_held(&google, service.address).await;

    let signalled = Instant::now();
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert!(signalled.elapsed() < Duration::from_secs(1) + SLACK);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("ending with calls in flight calls=1"), "{ended:?}");
    in_flight.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_cancel_whose_caller_hung_up_is_carried_to_its_end() {
    let google = Google::start().await;
    let mut service = start(&google, "20s").await;
    let in_flight = begin_held(&google, service.address).await;
    in_flight.abort();
    assert!(in_flight.await.unwrap_err().is_cancelled());

    service.process.signal(SIGTERM);
    eventually("new connections are refused", async || TcpStream::connect(service.address).await.err()).await;
    // Nobody is left to wait for: a process that forgot the cancel would go in this time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(service.process.is_running(), "it went before the cancel was answered");
    google.release();
    google.saw(|seen| seen.answered == 1).await;
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT)] {
        let google = Google::start().await;
        // Longer than this test waits for the end.
        let service = start(&google, "10m").await;
        let in_flight = begin_held(&google, service.address).await;
        service.process.signal(first);
        service.not_ready(&["draining"]).await;

        service.process.signal(second);
        let ended = service.process.end().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("ending at once"), "{ended:?}");
        let lines = ended.stdout.matches(r#""code":"UNAVAILABLE","attempts":1"#).count();
        assert_eq!(lines, 1, "the call that was sent has its line: {ended:?}");
        in_flight.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn an_open_reflection_stream_does_not_hold_the_process() {
    let google = Google::start().await;
    let service = start(&google, "10m").await;
    let mut client = ServerReflectionClient::new(connect(service.address).await.unwrap());
    let list = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request: list };
    // The client never ends its side.
    let requests = stream::iter([request]).chain(stream::pending());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some(), "it is served");

    service.process.signal(SIGTERM);
    let end = timeout(LIMIT, answers.message()).await.expect("an end").unwrap();
    assert_eq!(end, None, "the stream ends well, though its client could have asked more");
    assert_eq!(service.process.end().await.code, Some(0));
}
