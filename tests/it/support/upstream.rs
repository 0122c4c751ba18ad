//! A scripted upstream and its token endpoint. It serves HTTP/1.1 in plaintext, or the protocol that TLS negotiates.
//! Dropping the upstream fails the test when a request is missing or unexpected.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};

use super::{
    reply::{Body, Gate, Reply},
    tls::{Authority, H2},
    with_timeout,
};

/// A request that the upstream received.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamRequest {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The scripted responses and the received requests.
#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    default_reply: Option<Reply>,
    token_replies: VecDeque<Reply>,
    default_token_reply: Option<Reply>,
    requests: Vec<UpstreamRequest>,
    token_requests: Vec<UpstreamRequest>,
    connections: usize,
    /// Requests that the test did not expect.
    errors: Vec<String>,
}

/// A running upstream.
pub(crate) struct Upstream {
    url: String,
    pub(crate) address: SocketAddr,
    script: watch::Sender<Script>,
    serving: JoinHandle<()>,
}

impl Upstream {
    /// Serves plaintext on loopback.
    pub(crate) async fn start() -> Self {
        Self::serve("http", None, |socket| async { Some(socket) }).await
    }

    /// Serves TLS with a certificate of `authority` and one of the ALPN protocols `protocols`.
    pub(crate) async fn start_tls(authority: &Authority, protocols: &[&[u8]]) -> Self {
        let (upstream, gate) = Self::start_tls_gated(authority, protocols).await;
        gate.open();
        upstream
    }

    /// Likewise, but accepts TCP connections and starts no TLS handshake before the gate opens.
    pub(crate) async fn start_tls_gated(authority: &Authority, protocols: &[&[u8]]) -> (Self, Gate) {
        let gate = Gate::new();
        (Self::secured(authority, protocols, None, gate.clone()).await, gate)
    }

    /// Serves HTTP/2 over TLS, with at most `max_streams` concurrent streams per connection.
    pub(crate) async fn start_http2(authority: &Authority, max_streams: u32) -> Self {
        let handshakes = Gate::new();
        handshakes.open();
        Self::secured(authority, &[H2], Some(max_streams), handshakes).await
    }

    async fn secured(
        authority: &Authority,
        protocols: &[&[u8]],
        max_streams: Option<u32>,
        handshakes: Gate,
    ) -> Self {
        let acceptor = authority.acceptor(protocols);
        Self::serve("https", max_streams, move |socket| {
            let (acceptor, handshakes) = (acceptor.clone(), handshakes.clone());
            async move {
                handshakes.pass().await;
                // Some tests use a client that rejects the certificate.
                acceptor.accept(socket).await.ok()
            }
        })
        .await
    }

    async fn serve<T, F>(
        scheme: &str,
        max_streams: Option<u32>,
        secure: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = watch::Sender::new(Script::default());
        let serving = tokio::spawn({
            let script = script.clone();
            async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    script.send_modify(|script| script.connections += 1);
                    let (socket, script) = (secure(socket), script.clone());
                    tokio::spawn(async move {
                        let Some(socket) = socket.await else { return };
                        let service = service_fn(move |request| respond(script.clone(), request));
                        let mut builder = auto::Builder::new(TokioExecutor::new());
                        if let Some(max_streams) = max_streams {
                            builder.http2().max_concurrent_streams(max_streams);
                        }
                        // A scripted truncation or a client that disconnects ends the connection with an error.
                        let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                    });
                }
            }
        });
        Self { url: format!("{scheme}://{address}"), address, script, serving }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    /// Answers the next API requests with these replies, in order.
    pub(crate) fn answers(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.send_modify(|script| script.replies.extend(replies));
    }

    /// Answers every further API request with this reply.
    pub(crate) fn always_answers(&self, reply: Reply) {
        self.script.send_modify(|script| script.default_reply = Some(reply));
    }

    /// Answers the next token requests with these replies, in order. The n-th token request otherwise gets the token
    /// `tn`.
    pub(crate) fn answers_for_tokens(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.send_modify(|script| script.token_replies.extend(replies));
    }

    /// Answers every further token request with this reply.
    pub(crate) fn always_answers_for_tokens(&self, reply: Reply) {
        self.script.send_modify(|script| script.default_token_reply = Some(reply));
    }

    /// The API requests so far.
    pub(crate) fn requests(&self) -> Vec<UpstreamRequest> {
        self.script.borrow().requests.clone()
    }

    /// The number of token requests so far.
    pub(crate) fn token_requests(&self) -> usize {
        self.script.borrow().token_requests.len()
    }

    /// The number of TCP connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.script.borrow().connections
    }

    /// Waits until this many API requests have arrived.
    pub(crate) async fn wait_for_requests(&self, count: usize) {
        let mut script = self.script.subscribe();
        let arrival = script.wait_for(|script| script.requests.len() >= count);
        with_timeout("requests at the upstream", arrival).await.unwrap();
    }
}

async fn respond(
    script: watch::Sender<Script>,
    request: Request<Incoming>,
) -> Result<Response<Body>, h2::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let request =
        UpstreamRequest { method: head.method, path, version: head.version, headers: head.headers, body };
    let mut reply = None;
    script.send_modify(|script| {
        reply = Some(if request.path == "/token" {
            script.token_reply(request)
        } else {
            script.api_reply(request)
        });
    });
    let reply = reply.unwrap_or_else(|| Reply::new(500, "text/plain", "unreachable"));
    reply.into_response().await
}

impl Script {
    fn token_reply(&mut self, request: UpstreamRequest) -> Reply {
        let signed = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey";
        let granted =
            request.body.starts_with(signed) || request.body.ends_with(b"&grant_type=refresh_token");
        if request.method != Method::POST || !granted {
            self.errors.push(format!("invalid token request: {} {:?}", request.method, request.headers));
        }
        self.token_requests.push(request);
        let token = format!("t{}", self.token_requests.len());
        let next = self.token_replies.pop_front().or_else(|| self.default_token_reply.clone());
        next.unwrap_or_else(|| Reply::token(&token))
    }

    fn api_reply(&mut self, request: UpstreamRequest) -> Reply {
        let call = format!("{} {}", request.method, request.path);
        self.requests.push(request);
        self.replies.pop_front().or_else(|| self.default_reply.clone()).unwrap_or_else(|| {
            self.errors.push(format!("unexpected: {call}"));
            Reply::new(418, "text/plain", "not in the script")
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
        if std::thread::panicking() {
            return;
        }
        let script = self.script.borrow();
        assert_eq!(script.errors, [""; 0], "at the upstream");
        assert!(script.replies.is_empty(), "{} API requests are missing", script.replies.len());
        assert!(script.token_replies.is_empty(), "{} token requests are missing", script.token_replies.len());
    }
}
