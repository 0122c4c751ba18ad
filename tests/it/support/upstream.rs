//! An upstream and its token endpoint, of HTTP/1.1 in plaintext or of what TLS negotiates, that answers by
//! a script. Dropped at the end of a test, it fails it when a call is missing or was not expected.

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
    soon,
    tls::{Authority, H2},
};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is to be answered, and what came.
#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    always: Option<Reply>,
    tokens: VecDeque<Reply>,
    always_tokens: Option<Reply>,
    seen: Vec<Seen>,
    token_requests: Vec<Seen>,
    connections: usize,
    faults: Vec<String>,
}

/// A running upstream.
pub(crate) struct Upstream {
    url: String,
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    serving: JoinHandle<()>,
}

impl Upstream {
    /// In plaintext on loopback.
    pub(crate) async fn start() -> Self {
        Self::serve("http", None, |socket| async { Some(socket) }).await
    }

    /// Over TLS, with a certificate of `authority`, in one of `protocols`.
    pub(crate) async fn start_tls(authority: &Authority, protocols: &[&[u8]]) -> Self {
        let (upstream, handshakes) = Self::start_tls_held(authority, protocols).await;
        handshakes.open();
        upstream
    }

    /// Likewise. It accepts TCP connections, and begins no TLS handshake before the gate opens.
    pub(crate) async fn start_tls_held(authority: &Authority, protocols: &[&[u8]]) -> (Self, Gate) {
        let gate = Gate::new();
        (Self::secured(authority, protocols, None, gate.clone()).await, gate)
    }

    /// Over TLS and HTTP/2, with at most `max_streams` streams on a connection.
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
                // A client that does not trust the certificate is what some tests are about.
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
        let state = watch::Sender::new(State::default());
        let serving = tokio::spawn({
            let state = state.clone();
            async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    state.send_modify(|state| state.connections += 1);
                    let (socket, state) = (secure(socket), state.clone());
                    tokio::spawn(async move {
                        let Some(socket) = socket.await else { return };
                        let service = service_fn(move |request| answer(state.clone(), request));
                        let mut builder = auto::Builder::new(TokioExecutor::new());
                        if let Some(max_streams) = max_streams {
                            builder.http2().max_concurrent_streams(max_streams);
                        }
                        // It ends in error when it was told to break off, or its client goes.
                        let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                    });
                }
            }
        });
        Self { url: format!("{scheme}://{address}"), address, state, serving }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    /// The next call to the API is answered so, each call by the next of these.
    pub(crate) fn answers(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.send_modify(|state| state.script.extend(replies));
    }

    /// Calls beyond the script, however many, are answered so.
    pub(crate) fn always_answers(&self, reply: Reply) {
        self.state.send_modify(|state| state.always = Some(reply));
    }

    /// The next requests for a token are answered so; those after them get a token `t1`, `t2` and so on,
    /// by how many requests came.
    pub(crate) fn answers_for_tokens(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.send_modify(|state| state.tokens.extend(replies));
    }

    /// Requests for a token beyond those, however many, are answered so.
    pub(crate) fn always_answers_for_tokens(&self, reply: Reply) {
        self.state.send_modify(|state| state.always_tokens = Some(reply));
    }

    /// The calls to the API so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.borrow().seen.clone()
    }

    /// The requests for a token so far.
    pub(crate) fn token_requests(&self) -> usize {
        self.state.borrow().token_requests.len()
    }

    /// The TCP connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.borrow().connections
    }

    /// Waits until this many calls to the API have come.
    pub(crate) async fn has_seen(&self, calls: usize) {
        let mut state = self.state.subscribe();
        let arrival = state.wait_for(|state| state.seen.len() >= calls);
        soon("calls at the upstream", arrival).await.unwrap();
    }
}

async fn answer(
    state: watch::Sender<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, h2::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let seen = Seen { method: head.method, path, version: head.version, headers: head.headers, body };
    let mut reply = None;
    state.send_modify(|state| {
        reply = Some(if seen.path == "/token" { state.token(seen) } else { state.call(seen) });
    });
    let reply = reply.unwrap_or_else(|| Reply::new(500, "text/plain", "unreachable"));
    reply.into_response().await
}

impl State {
    fn token(&mut self, seen: Seen) -> Reply {
        let signed = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey";
        let granted = seen.body.starts_with(signed) || seen.body.ends_with(b"&grant_type=refresh_token");
        if seen.method != Method::POST || !granted {
            self.faults.push(format!("not a request for a token: {} {:?}", seen.method, seen.headers));
        }
        self.token_requests.push(seen);
        let token = format!("t{}", self.token_requests.len());
        let next = self.tokens.pop_front().or_else(|| self.always_tokens.clone());
        next.unwrap_or_else(|| Reply::token(&token))
    }

    fn call(&mut self, seen: Seen) -> Reply {
        let call = format!("{} {}", seen.method, seen.path);
        self.seen.push(seen);
        self.script.pop_front().or_else(|| self.always.clone()).unwrap_or_else(|| {
            self.faults.push(format!("unexpected: {call}"));
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
        let state = self.state.borrow();
        assert_eq!(state.faults, [""; 0], "at the upstream");
        assert!(state.script.is_empty(), "{} calls are missing", state.script.len());
        assert!(state.tokens.is_empty(), "{} requests for a token are missing", state.tokens.len());
    }
}
