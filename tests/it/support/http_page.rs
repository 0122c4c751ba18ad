//! A client for the pages of the admin port and of the telemetry listener.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::with_timeout;

/// The status, the head in lowercase, and the body of a response. The host of the request is not an address.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    accept: &str,
) -> (u16, String, String) {
    send(address, method, path, &[("host", "x"), ("accept", accept)], "").await
}

/// As [`request`], for a request with these headers and this body.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String, String) {
    let response = with_timeout("a page", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    });
    let response = response.await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}
