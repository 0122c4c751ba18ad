//! Connections: their limits and their end.

use std::time::Duration;

use countermand_emulator::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::emulator::client::{BOTH, Client, DEVICE, start};

#[tokio::test]
async fn a_post_without_a_length_gets_googles_error() {
    let emulator = start(Settings::default()).await;
    let mut stream = TcpStream::connect(emulator.address()).await.unwrap();
    let head =
        format!("POST /v1/{DEVICE}/operations/1:cancel HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 411 Length Required\r\n"), "{response}");
}

#[tokio::test]
async fn a_connection_without_http_is_closed_and_others_are_served() {
    let emulator = start(Settings::default()).await;
    for bytes in [&b"\x16\x03\x01\x00\x01"[..], b"GET", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense nonsense"]
    {
        let mut stream = TcpStream::connect(emulator.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut response = Vec::new();
        // The connection may get a response or be reset. It must end.
        let end = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut response)).await;
        assert!(end.is_ok(), "still open");
    }
    let client = Client::new(&emulator, BOTH[1]).await;
    client.lock(DEVICE).await;
}

#[tokio::test]
async fn a_connection_has_the_configured_limit_of_streams() {
    let emulator = start(Settings { max_concurrent_streams: 7, ..Settings::default() }).await;
    let stream = TcpStream::connect(emulator.address()).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let request = http::Request::get("http://x/none").body(()).unwrap();
    requests.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(requests.current_max_send_streams(), 7);
    connection.abort();
}

#[tokio::test]
async fn a_shutdown_lets_the_calls_in_flight_finish() {
    for protocol in BOTH {
        let emulator = start(Settings::default()).await;
        let client = Client::new(&emulator, protocol).await;
        let name = client.lock(DEVICE).await;
        emulator.control().set_latency(Duration::from_millis(200));
        let control = emulator.control().clone();
        let call = tokio::spawn(async move { client.cancel(&name).await.status });
        while control.queries().cancel == 0 {
            tokio::task::yield_now().await;
        }
        let address = emulator.address();
        emulator.shutdown().await.unwrap();
        assert_eq!(call.await.unwrap(), 200, "{protocol:?}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
