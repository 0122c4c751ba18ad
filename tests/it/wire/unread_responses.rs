//! Clients that do not read their responses. A call is in flight until its response is sent: it holds its permit, and a
//! drain waits for it.

use std::time::{Duration, Instant};

use countermand::{proto::longrunning::ListOperationsRequest, server::Drained};
use http::Response;
use prost::Message;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};
use tonic::Code;

use crate::{
    support::{
        grpc::{CANCEL, LIST, Wire, by_name},
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// The flow-control window of a client.
const WINDOW: usize = 65_535;

/// A page that is many times larger than the window.
fn long_page() -> Value {
    let operation = |id| json!({"name": format!("{NAME}{id}"), "metadata": {"text": "x".repeat(1000)}});
    json!({"operations": (0..600).map(operation).collect::<Vec<_>>()})
}

/// A lower bound of the size of the response.
const MIN_SIZE: usize = 600_000;

/// Starts a list call and returns the response after its headers arrived. No byte of the body has been read.
async fn start_list(upstream: &Upstream, wire: &Wire) -> Response<h2::RecvStream> {
    upstream.answers([Reply::json(200, &long_page())]);
    let device =
        ListOperationsRequest { name: "enterprises/LC01/devices/d1".to_owned(), ..Default::default() };
    let list = wire.start_raw(LIST, &[], &device.encode_to_vec()).await;
    let response = with_timeout("the response headers", list.0).await.unwrap();
    assert_eq!(response.headers().get("grpc-status"), None, "the response is not an error");
    response
}

/// Reads the response to its end and asserts OK. Calls `pause` with the bytes read before it releases window capacity.
async fn read(response: Response<h2::RecvStream>, mut pause: impl AsyncFnMut(usize)) {
    let mut body = response.into_body();
    let mut size = 0;
    while let Some(piece) = with_timeout("more of the response", body.data()).await {
        let piece = piece.unwrap();
        size += piece.len();
        pause(size).await;
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert!(size > MIN_SIZE, "{size}");
    let trailers = with_timeout("the trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// Waits until a permit is free and a call is answered OK.
async fn wait_for_permit(upstream: &Upstream, service: &Service) {
    upstream.always_answers(Reply::ok());
    let wire = service.wire().await;
    with_timeout("a permit", async { while wire.cancel(NAME, &[]).await.code() != Code::Ok {} }).await;
}

#[tokio::test]
async fn a_call_holds_its_permit_until_its_response_is_sent() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).max_concurrent_calls(1).start().await;
    let (wire, other) = (service.wire().await, service.wire().await);
    let response = start_list(&upstream, &wire).await;
    for _ in 0..3 {
        assert_eq!(other.cancel(NAME, &[]).await.code(), Code::Unavailable);
    }
    read(response, async |_| {}).await;
    wait_for_permit(&upstream, &service).await;
}

#[tokio::test]
async fn a_reset_or_a_disconnect_releases_the_permit() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).max_concurrent_calls(1).start().await;
    let wire = service.wire().await;
    drop(start_list(&upstream, &wire).await);
    wait_for_permit(&upstream, &service).await;
    let response = start_list(&upstream, &wire).await;
    wire.disconnect();
    wait_for_permit(&upstream, &service).await;
    drop(response);
}

#[tokio::test]
async fn a_drain_waits_until_a_slow_client_has_its_response() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let (address, wire) = (service.address, service.wire().await);
    let response = start_list(&upstream, &wire).await;
    let drain = tokio::spawn(service.drain());
    with_timeout("new connections to be refused", async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Reading takes more than a second, which exceeds the time that idle connections get during a drain.
    read(response, async |size| {
        sleep(Duration::from_millis(40)).await;
        assert!(!drain.is_finished() || size > MIN_SIZE - WINDOW, "the response has not been sent yet");
    })
    .await;
    assert_eq!(with_timeout("the end of the drain", drain).await.unwrap(), Drained::Whole);
}

#[tokio::test]
async fn a_drain_that_times_out_reports_an_unread_response() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_DRAIN_TIMEOUT", "3s").start().await;
    let wire = service.wire().await;
    let _response = start_list(&upstream, &wire).await;
    assert_eq!(service.drain().await, Drained::Cut { calls: 1 });
}

/// A bound on the drain that exceeds the `upstream.timeout` of the test.
const MAX_DRAIN: Duration = Duration::from_secs(10);

/// Starts calls on a connection whose flow-control window is zero. The connection still answers PING frames.
async fn start_without_window(service: &Service, calls: usize) -> (Wire, Vec<Response<h2::RecvStream>>) {
    let wire = Wire::open_without_a_window(service.address).await;
    let mut responses = Vec::new();
    for _ in 0..calls {
        let call = wire.start_raw(CANCEL, &[], &by_name(NAME)).await;
        let response = with_timeout("the response headers", call.0).await.unwrap();
        assert_eq!(response.headers().get("grpc-status"), None, "the response is not an error");
        responses.push(response);
    }
    (wire, responses)
}

#[tokio::test]
async fn a_client_that_never_reads_is_disconnected_and_releases_its_permits() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).max_concurrent_calls(4).timeout("1s").start().await;
    let (_blocked, responses) = start_without_window(&service, 4).await;
    let other = service.wire().await;
    assert_eq!(other.cancel(NAME, &[]).await.code(), Code::Unavailable, "all permits are held");
    wait_for_permit(&upstream, &service).await;
    for response in responses {
        let data = with_timeout("the end of a response", response.into_body().data()).await;
        data.unwrap().unwrap_err();
    }
    assert!(other.accepts_calls().await, "only the client that does not read is disconnected");
}

#[tokio::test]
async fn a_drain_waits_a_bounded_time_for_a_client_that_never_reads() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    // The timeout exceeds the time for which a drain still accepts connections, so GOAWAY is sent first.
    let setup = Setup::of(&upstream).timeout("3s");
    let service = setup.variable("COUNTERMAND_DRAIN_TIMEOUT", "1m").start().await;
    let (_wire, _responses) = start_without_window(&service, 1).await;
    let start = Instant::now();
    service.drain().await;
    assert!(start.elapsed() < MAX_DRAIN, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_the_whole_response() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("2s").start().await;
    let wire = service.wire().await;
    let response = start_list(&upstream, &wire).await;
    let start = Instant::now();
    read(response, async |_| sleep(Duration::from_millis(80)).await).await;
    assert!(start.elapsed() > Duration::from_secs(2), "the client reads slowly");
}
