//! A forward proxy that connects every CONNECT to one server regardless of the host, or refuses every CONNECT.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::tls::Authority;

pub(crate) struct ForwardProxy {
    /// The scheme, the host and the port.
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

/// The response to a CONNECT.
#[derive(Clone, Copy)]
enum ConnectResponse {
    Tunnel(SocketAddr),
    /// The status and its phrase.
    Refusal(&'static str),
}

impl ForwardProxy {
    /// Connects every CONNECT to `server`.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        Self::serve(ConnectResponse::Tunnel(server), None).await
    }

    /// Likewise, and clients connect by TLS, with a certificate of `authority`.
    pub(crate) async fn start_tls(server: SocketAddr, authority: &Authority) -> Self {
        Self::serve(ConnectResponse::Tunnel(server), Some(authority.acceptor(&[]))).await
    }

    /// Answers every CONNECT with `status`, such as `502 Bad Gateway`.
    pub(crate) async fn refusing(status: &'static str) -> Self {
        Self::serve(ConnectResponse::Refusal(status), None).await
    }

    /// Likewise, and clients connect by TLS, with a certificate of `authority`.
    pub(crate) async fn refusing_tls(status: &'static str, authority: &Authority) -> Self {
        Self::serve(ConnectResponse::Refusal(status), Some(authority.acceptor(&[]))).await
    }

    async fn serve(response: ConnectResponse, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&heads);
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, heads) = (acceptor.clone(), Arc::clone(&received));
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            answer(acceptor.accept(client).await.unwrap(), response, &heads).await
                        }
                        None => answer(client, response, &heads).await,
                    }
                });
            }
        });
        Self { url, heads, serving }
    }

    /// The URL with `login` before the host.
    pub(crate) fn url_with(&self, login: &str) -> String {
        self.url.replace("://", &format!("://{login}@"))
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    response: ConnectResponse,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(!head.contains("Bearer"), "{head}");
    heads.lock().unwrap().push(head);
    match response {
        ConnectResponse::Tunnel(server) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            // An error means that one side closed the connection.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        ConnectResponse::Refusal(status) => {
            let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            client.write_all(response.as_bytes()).await.unwrap();
            // Some clients close the connection first.
            let _ = client.shutdown().await;
        }
    }
}
