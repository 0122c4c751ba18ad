//! The baseline: a bare HTTP/2 relay.
//!
//! The relay accepts HTTP/2 in plaintext or over mutual TLS, and forwards over one HTTP/2 connection with TLS. It
//! forwards method, path, headers, body and trailers unchanged, without parsing, checks, counters or logs. Its cost
//! is the cost of HTTP/2 and TLS, which is the minimum of any proxy.

use std::net::Ipv4Addr;

use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::files::Files;
use crate::{Error, process};

/// Relays from a free loopback port to `https://localhost:{upstream}` until the process ends. With `mutual_tls`,
/// callers must present a certificate.
pub(crate) async fn run(files: &Files, upstream: u16, mutual_tls: bool) -> Result<(), Error> {
    let authority: Authority = format!("localhost:{upstream}").parse()?;
    let requests = connect(files, upstream).await?;
    let acceptor = if mutual_tls { Some(files.acceptor(true)?) } else { None };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    process::announce(&listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = {
            let (requests, authority) = (requests.clone(), authority.clone());
            service_fn(move |request| forward(requests.clone(), authority.clone(), request))
        };
        // A failed connection is not reported here, because its client reports the failed calls.
        let server = server::conn::http2::Builder::new(TokioExecutor::new());
        match acceptor.clone() {
            None => drop(tokio::spawn(server.serve_connection(TokioIo::new(socket), service))),
            Some(acceptor) => drop(tokio::spawn(async move {
                let stream = acceptor.accept(socket).await?;
                server.serve_connection(TokioIo::new(stream), service).await?;
                Ok::<_, Error>(())
            })),
        }
    }
}

async fn connect(files: &Files, upstream: u16) -> Result<SendRequest<Incoming>, Error> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
    socket.set_nodelay(true)?;
    let connector = TlsConnector::from(files.client(false)?);
    let stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
    let (requests, connection) =
        client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // When the connection ends, every later call fails.
    tokio::spawn(connection);
    Ok(requests)
}

async fn forward(
    mut requests: SendRequest<Incoming>,
    authority: Authority,
    mut request: Request<Incoming>,
) -> Result<http::Response<Incoming>, hyper::Error> {
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTPS);
    target.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(target).expect("a request over HTTP/2 has a path");
    requests.ready().await?;
    requests.send_request(request).await
}
