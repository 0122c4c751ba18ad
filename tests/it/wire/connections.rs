//! The limits on connections: how many, how slow, how old, and how much they may say at once.

use std::time::Duration;

use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    support::{
        reply::Reply,
        service::{Service, Setup},
        soon,
        tls::Authority,
        tls_client::TlsClient,
        upstream::Upstream,
    },
    wire::NAME,
};

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    upstream
}

/// Waits for the service to close a connection.
async fn is_closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = soon("the end of a connection", socket.read_to_end(&mut rest)).await;
}

async fn cancels(service: &Service) -> bool {
    service.wire().await.try_cancel(NAME).await
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_the_others_are_served() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTIONS", "2").start().await;
    let first = service.wire().await;
    let second = service.wire().await;
    for wire in [&first, &second] {
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
    for _ in 0..3 {
        is_closed(TcpStream::connect(service.address).await.unwrap()).await;
    }
    for wire in [&first, &second] {
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
    first.hang_up();
    soon("a place", async { while !cancels(&service).await {} }).await;
}

#[tokio::test]
async fn who_does_not_speak_in_time_is_closed_over_tls_and_without() {
    let upstream = upstream().await;
    let authority = Authority::new();
    let setup = || Setup::of(&upstream).variable("COUNTERMAND_HANDSHAKE_TIMEOUT", "100ms");
    let plaintext = setup().start().await;
    is_closed(TcpStream::connect(plaintext.address).await.unwrap()).await;
    let mut half = TcpStream::connect(plaintext.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    is_closed(half).await;

    let encrypted = setup().tls(&authority.server(), None).start().await;
    is_closed(TcpStream::connect(encrypted.address).await.unwrap()).await;
    let mut half = TcpStream::connect(encrypted.address).await.unwrap();
    half.write_all(&[22, 3, 1, 1, 0]).await.unwrap();
    is_closed(half).await;
    let mut silent = TlsClient::new(&authority, None).connect(encrypted.address).await.unwrap();
    let _ = soon("the end of a connection", silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn those_who_are_slow_to_shake_hands_give_way_to_others() {
    let upstream = upstream().await;
    let authority = Authority::new();
    let setup = Setup::of(&upstream).tls(&authority.server(), None);
    // No slow one times out in this test.
    let setup =
        setup.variable("COUNTERMAND_MAX_HANDSHAKES", "2").variable("COUNTERMAND_HANDSHAKE_TIMEOUT", "1h");
    let service = setup.start().await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(TcpStream::connect(service.address).await.unwrap());
    }
    let client = TlsClient::new(&authority, None);
    for _ in 0..3 {
        let (wire, _) = soon("a turn", client.open(service.address)).await;
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
    // Of the four, two at least had to go.
    for slow in slow.drain(..2) {
        is_closed(slow).await;
    }
}

#[tokio::test]
async fn a_connection_of_age_says_so_and_ends_with_its_last_call() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTION_AGE", "300ms").start().await;
    let wire = service.wire().await;
    let long = wire.start(NAME, &[]).await;
    upstream.has_seen(1).await;
    soon("the goodbye", async { while wire.takes_calls().await {} }).await;
    gate.open();
    assert_eq!(long.answer().await.code(), Code::Ok, "the call in flight is answered");
    wire.end().await.unwrap();
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_goes_with_its_connection() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::hanging()]);
    let service = Setup::of(&upstream)
        .variable("COUNTERMAND_MAX_CONNECTION_AGE", "50ms")
        .variable("COUNTERMAND_MAX_CONNECTION_AGE_GRACE", "50ms")
        .start()
        .await;
    let wire = service.wire().await;
    let _long = wire.start(NAME, &[]).await;
    upstream.has_seen(1).await;
    // Whether it hears of the end as such or as a loss is TCP's affair.
    let _ = wire.end().await;
}

#[tokio::test]
async fn an_age_that_is_off_never_comes() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_CONNECTION_AGE", "off").start().await;
    assert!(cancels(&service).await);
}

#[tokio::test]
async fn headers_beyond_the_limit_cost_the_call_and_far_beyond_the_connection() {
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
        soon("an answer", response).await.map(|response| response.status().as_u16())
    };
    assert_eq!(status(3000).await.unwrap(), 200);
    assert_eq!(status(5000).await.unwrap(), 431, "RFC 6585, section 5");
    assert_eq!(status(100).await.unwrap(), 200, "the connection goes on");
    assert!(status(1_000_000).await.is_err());
    // How a client hears of it depends on how much it still had to send.
    soon("the end of the connection", connection).await.unwrap().unwrap_err();
    assert!(cancels(&service).await);
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused() {
    let upstream = upstream().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_REQUEST_BYTES", "1024").start().await;
    let wire = service.wire().await;
    let code = wire.cancel(&"x".repeat(2000), &[]).await.code();
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn calls_beyond_the_streams_of_a_connection_wait_with_the_client() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok.clone(), ok.clone(), ok]);
    let service = Setup::of(&upstream).variable("COUNTERMAND_MAX_STREAMS_PER_CONNECTION", "2").start().await;
    let mut client = service.connect().await;
    // After an answer the client knows the server's settings.
    crate::support::service::cancel(&mut client, "none").await.unwrap_err();
    let calls = (0..3).map(|n| {
        let mut client = client.clone();
        async move { crate::support::service::cancel(&mut client, &format!("{NAME}{n}")).await }
    });
    let calls = tokio::spawn(futures_util::future::join_all(calls.collect::<Vec<_>>()));
    upstream.has_seen(2).await;
    // As long as the third would take to come by itself, many times over.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(upstream.seen().len(), 2);
    gate.open();
    for answer in soon("the answers", calls).await.unwrap() {
        answer.unwrap();
    }
}
