//! Calls and streams that delay the exit after a signal, and those that do not.

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

/// The delay that a loaded machine may add.
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
async fn a_call_longer_than_the_drain_timeout_does_not_delay_the_exit() {
    let google = Google::start().await;
    let service = start(&google, "1s").await;
    let in_flight = begin_held(&google, service.address).await;

    let signalled = Instant::now();
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert!(signalled.elapsed() < Duration::from_secs(1) + SLACK);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("drain timed out with calls in flight calls=1"), "{ended:?}");
    in_flight.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_cancel_completes_before_the_exit_after_its_caller_hung_up() {
    let google = Google::start().await;
    let mut service = start(&google, "20s").await;
    let in_flight = begin_held(&google, service.address).await;
    in_flight.abort();
    assert!(in_flight.await.unwrap_err().is_cancelled());

    service.process.signal(SIGTERM);
    eventually("new connections are refused", async || TcpStream::connect(service.address).await.err()).await;
    // No caller is left. A process that dropped the cancel would exit within this second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(service.process.is_running(), "the process ended before the cancel was answered");
    google.release();
    google.saw(|seen| seen.answered == 1).await;
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    for (first, second) in [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT)] {
        let google = Google::start().await;
        // The drain timeout is longer than the wait of this test.
        let service = start(&google, "10m").await;
        let in_flight = begin_held(&google, service.address).await;
        service.process.signal(first);
        service.not_ready(&["draining"]).await;

        service.process.signal(second);
        let ended = service.process.end().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("ending at once"), "{ended:?}");
        let lines = ended.stdout.matches(r#""code":"UNAVAILABLE","attempts":1"#).count();
        assert_eq!(lines, 1, "the call that was sent is audited: {ended:?}");
        in_flight.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn an_open_reflection_stream_does_not_delay_the_exit() {
    let google = Google::start().await;
    let service = start(&google, "10m").await;
    let mut client = ServerReflectionClient::new(connect(service.address).await.unwrap());
    let list = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request: list };
    // The client never closes the request stream.
    let requests = stream::iter([request]).chain(stream::pending());
    let mut responses = client.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().is_some(), "the service list arrives");

    service.process.signal(SIGTERM);
    let end = timeout(LIMIT, responses.message()).await.expect("the stream ends").unwrap();
    assert_eq!(end, None, "the stream ends with OK, although the client did not close it");
    assert_eq!(service.process.end().await.code, Some(0));
}
