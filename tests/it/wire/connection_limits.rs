//! Limits on connections: their number, handshake time, age, headers, message size and streams.

use std::time::Duration;

use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    support::{
        metrics::Scrape,
        reply::Reply,
        service::{Service, Setup},
        tls::Authority,
        tls_client::TlsClient,
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    upstream
}

/// Waits until the service closes the connection.
async fn wait_for_close(mut socket: TcpStream) {
    let mut rest = Vec::new();
    // A reset counts as a close.
    let _ = with_timeout("the end of a connection", socket.read_to_end(&mut rest)).await;
}

async fn is_served(service: &Service) -> bool {
    service.wire().await.try_cancel(NAME).await
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_the_others_are_served() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTIONS", "2").start().await;
    let first = service.wire().await;
    let second = service.wire().await;
    for wire in [&first, &second] {
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
    for _ in 0..3 {
        wait_for_close(TcpStream::connect(service.address).await.unwrap()).await;
    }
    let refused = Scrape::of(service.admin).await;
    assert_eq!(refused.value("countermand_connections_refused_total", &["reason=\"max_connections\""]), 3.0);
    for wire in [&first, &second] {
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
    first.disconnect();
    with_timeout("a free connection", async { while !is_served(&service).await {} }).await;
}

#[tokio::test]
async fn a_connection_over_the_limit_replaces_one_without_a_preface() {
    let upstream = upstream().await;
    let authority = Authority::new();
    let setup = || {
        let setup = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTIONS", "2");
        setup.variable("COUNTERMAND_HANDSHAKE_TIMEOUT", "1h")
    };
    let plaintext = setup().start().await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(plaintext.address).await.unwrap());
    }
    let wires = [plaintext.wire().await, plaintext.wire().await];
    for wire in &wires {
        assert_eq!(with_timeout("a response", wire.cancel(NAME, &[])).await.code(), Code::Ok);
    }
    for silent in silent.drain(..) {
        wait_for_close(silent).await;
    }
    wait_for_close(TcpStream::connect(plaintext.address).await.unwrap()).await;
    for wire in &wires {
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok, "connections with a preface stay open");
    }

    let encrypted = setup().tls(&authority.server(), None).start().await;
    let client = TlsClient::new(&authority, None);
    let without_tls = TcpStream::connect(encrypted.address).await.unwrap();
    let mut without_preface = client.connect(encrypted.address).await.unwrap();
    let mut wires = Vec::new();
    for _ in 0..2 {
        let (wire, _) = with_timeout("a handshake", client.open(encrypted.address)).await;
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
        wires.push(wire);
    }
    wait_for_close(without_tls).await;
    let _ = with_timeout("the end of a connection", without_preface.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn silent_connections_in_the_backlog_do_not_delay_a_client() {
    let upstream = upstream().await;
    let setup = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTIONS", "2");
    let service = setup.variable("COUNTERMAND_HANDSHAKE_TIMEOUT", "1h").start().await;
    let first = service.wire().await;
    assert_eq!(first.cancel(NAME, &[]).await.code(), Code::Ok);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(service.address).await.unwrap());
    }
    let last = service.wire().await;
    assert_eq!(with_timeout("a response", last.cancel(NAME, &[])).await.code(), Code::Ok);
    assert_eq!(first.cancel(NAME, &[]).await.code(), Code::Ok);
    for silent in silent {
        wait_for_close(silent).await;
    }
}

#[tokio::test]
async fn a_connection_without_a_handshake_is_closed_in_plaintext_and_over_tls() {
    let upstream = upstream().await;
    let authority = Authority::new();
    let setup = || Setup::of(&upstream).variable("COUNTERMAND_HANDSHAKE_TIMEOUT", "100ms");
    let plaintext = setup().start().await;
    wait_for_close(TcpStream::connect(plaintext.address).await.unwrap()).await;
    let mut half = TcpStream::connect(plaintext.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    wait_for_close(half).await;

    let encrypted = setup().tls(&authority.server(), None).start().await;
    wait_for_close(TcpStream::connect(encrypted.address).await.unwrap()).await;
    let mut half = TcpStream::connect(encrypted.address).await.unwrap();
    half.write_all(&[22, 3, 1, 1, 0]).await.unwrap();
    wait_for_close(half).await;
    let mut silent = TlsClient::new(&authority, None).connect(encrypted.address).await.unwrap();
    let _ = with_timeout("the end of a connection", silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn slow_handshakes_over_the_limit_are_closed_for_new_ones() {
    let upstream = upstream().await;
    let authority = Authority::new();
    let setup = Setup::of(&upstream).tls(&authority.server(), None);
    // Handshakes do not time out in this test.
    let setup =
        setup.variable("COUNTERMAND_MAX_HANDSHAKES", "2").variable("COUNTERMAND_HANDSHAKE_TIMEOUT", "1h");
    let service = setup.start().await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(TcpStream::connect(service.address).await.unwrap());
    }
    let client = TlsClient::new(&authority, None);
    for _ in 0..3 {
        let (wire, _) = with_timeout("a handshake", client.open(service.address)).await;
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
    // The limit is two handshakes, so the server closed at least two of the four connections.
    for slow in slow.drain(..2) {
        wait_for_close(slow).await;
    }
}

#[tokio::test]
async fn a_connection_at_its_maximum_age_sends_goaway_and_ends_with_its_last_call() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTION_AGE", "300ms").start().await;
    let wire = service.wire().await;
    let long = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    with_timeout("GOAWAY", async { while wire.accepts_calls().await {} }).await;
    gate.open();
    assert_eq!(long.response().await.code(), Code::Ok, "the call in flight is answered");
    wire.end().await.unwrap();
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_period_ends_with_its_connection() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::hanging()]);
    let service = Setup::of(&upstream)
        .variable("COUNTERMAND_MAX_CONNECTION_AGE", "50ms")
        .variable("COUNTERMAND_MAX_CONNECTION_AGE_GRACE", "50ms")
        .start()
        .await;
    let wire = service.wire().await;
    let _long = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    // TCP decides whether the client sees a close or an error.
    let _ = wire.end().await;
}

#[tokio::test]
async fn a_connection_works_with_its_maximum_age_off() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTION_AGE", "off").start().await;
    assert!(is_served(&service).await);
}

#[tokio::test]
async fn headers_over_the_limit_fail_the_call_and_far_over_the_limit_close_the_connection() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_HEADER_LIST_BYTES", "4096").start().await;
    let socket = TcpStream::connect(service.address).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut status = async |size: usize| {
        let path = "http://service/google.longrunning.Operations/CancelOperation";
        let request = Request::post(path).header("te", "trailers").header("content-type", "application/grpc");
        let request = request.header("x-long", "x".repeat(size));
        requests = requests.clone().ready().await?;
        let (response, _) = requests.send_request(request.body(()).unwrap(), true)?;
        with_timeout("a response", response).await.map(|response| response.status().as_u16())
    };
    assert_eq!(status(3000).await.unwrap(), 200);
    assert_eq!(status(5000).await.unwrap(), 431, "RFC 6585, section 5");
    assert_eq!(status(100).await.unwrap(), 200, "the connection stays open");
    assert!(status(1_000_000).await.is_err());
    // The kind of error depends on the bytes that the client had not sent.
    with_timeout("the end of the connection", connection).await.unwrap().unwrap_err();
    assert!(is_served(&service).await);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_REQUEST_BYTES", "1024").start().await;
    let wire = service.wire().await;
    let code = wire.cancel(&"x".repeat(2000), &[]).await.code();
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn calls_over_the_stream_limit_of_a_connection_wait_in_the_client() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok.clone(), ok.clone(), ok]);
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_STREAMS_PER_CONNECTION", "2").start().await;
    let mut client = service.connect().await;
    // After a response the client has the server's SETTINGS.
    crate::support::service::cancel(&mut client, "none").await.unwrap_err();
    let calls = (0..3).map(|n| {
        let mut client = client.clone();
        async move { crate::support::service::cancel(&mut client, &format!("{NAME}{n}")).await }
    });
    let calls = tokio::spawn(futures_util::future::join_all(calls.collect::<Vec<_>>()));
    upstream.wait_for_requests(2).await;
    // Without the limit, the third request would arrive within this time.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(upstream.requests().len(), 2);
    gate.open();
    for result in with_timeout("the responses", calls).await.unwrap() {
        result.unwrap();
    }
}
