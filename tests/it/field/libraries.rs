//! Libraries on the path of a call: HTTP, TLS, tokens, and gRPC.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use countermand::proto::longrunning::GetOperationRequest;
use h2::{Reason, server::SendResponse};
use http::{HeaderMap, Response};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::{
    support::{
        details::assert_our_error,
        grpc::{Wire, by_name, grpc_frame},
        issuer::{Key, claims, key_set},
        raw_upstream::{RawResponse, RawUpstream},
        reply::Reply,
        service::Setup,
        tls::{Authority, H2},
        tls_client::TlsClient,
        upstream::Upstream,
    },
    wire::NAME,
};

/// `{}`, compressed by gzip.
const COMPRESSED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";

/// An upstream that speaks HTTP/2 over TLS, on h2 directly.
struct Http2Server {
    url: String,
    connections: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Http2Server {
    /// Answers each request with `respond`. With `goes_away`, each connection announces its end before any request.
    async fn start(
        authority: &Authority,
        goes_away: bool,
        respond: impl Fn(SendResponse<Bytes>) -> Result<(), h2::Error> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (acceptor, connections) = (authority.acceptor(&[H2]), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, respond) = (acceptor.clone(), respond.clone());
                tokio::spawn(async move {
                    let socket = acceptor.accept(socket).await.unwrap();
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    if goes_away {
                        connection.abrupt_shutdown(Reason::NO_ERROR);
                    }
                    // The client may close the connection at any time.
                    while let Some(Ok((_, response))) = connection.accept().await {
                        respond(response).unwrap();
                    }
                });
            }
        });
        Self { url, connections, _serving: AbortOnDropHandle::new(serving) }
    }

    /// A service that calls this upstream. `tokens` is its token endpoint.
    fn setup(&self, authority: &Authority, tokens: &Upstream) -> Setup {
        Setup::with_token_endpoint(tokens, &self.url).ca(&authority.pem())
    }
}

/// Sends a response with this number of headers of 1 kB, without a body.
fn respond_with_head(mut response: SendResponse<Bytes>, headers: usize) -> Result<(), h2::Error> {
    let head = (0..headers).map(|n| (format!("x-{n}").parse().unwrap(), "y".repeat(1000).parse().unwrap()));
    let mut long = Response::new(());
    *long.headers_mut() = head.collect();
    response.send_response(long, true).map(drop)
}

/// snoyberg/http-client #521 and JuliaWeb/HTTP.jl #1360: a client took `103 Early Hints` for the response. The other
/// responses are valid by RFC 9112 (sections 2.3, 6.3 and 7.1.2), and a gateway may send them.
#[tokio::test]
async fn unusual_responses_of_http1_are_responses() {
    let tokens = Upstream::start().await;
    for response in [
        "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\n{}\r\n0\r\nx: y\r\n\r\n",
        &format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\n{{}}", "y".repeat(20_000)),
    ] {
        let upstream = RawUpstream::start([RawResponse::SendAndClose(response.into())]).await;
        let service = Setup::with_token_endpoint(&tokens, &upstream.url).start().await;
        assert_eq!(service.cancel(NAME).await.map_err(|status| status.code()), Ok(()), "{response}");
    }
}

/// RFC 9112, section 6.3: a response with two lengths has no reliable end. `101 Switching Protocols` ends HTTP, and
/// nodejs/undici #196 is about a client that did not refuse it.
#[tokio::test]
async fn a_response_without_a_reliable_end_is_malformed_and_is_not_retried() {
    let tokens = Upstream::start().await;
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n{}",
    ] {
        let upstream = RawUpstream::start([RawResponse::SendAndClose(response.into())]).await;
        let service = Setup::with_token_endpoint(&tokens, &upstream.url).start().await;
        let status = service.cancel(NAME).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
}

/// JuliaWeb/HTTP.jl #1360: an HTTP/2 client took `103 Early Hints` for the response.
#[tokio::test]
async fn informational_responses_and_trailers_of_http2_are_ignored() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let server = Http2Server::start(&authority, false, |mut response| {
        let hints = Response::builder().status(103).header("link", "</a>");
        response.send_informational(hints.body(()).unwrap())?;
        let mut body = response.send_response(Response::new(()), false)?;
        body.send_data("{}".into(), false)?;
        body.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "5".parse().unwrap())]))
    });
    let server = server.await;
    let service = server.setup(&authority, &tokens).start().await;
    service.cancel(NAME).await.unwrap();
}

/// Answers each HTTP/2 request with the header block `block` and no body. Writes frames (RFC 9113), because no library
/// sends a malformed block.
async fn answer_with_block(authority: &Authority, block: &'static [u8]) -> (String, AbortOnDropHandle<()>) {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const ACK: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = authority.acceptor(&[H2]);
    let serving = tokio::spawn(async move {
        loop {
            let mut socket = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            // The client's connection preface has 24 bytes. A frame's head has 9: length, type, flags and stream.
            socket.read_exact(&mut [0; 24]).await.unwrap();
            socket.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
            let mut head = [0; 9];
            // The client closes the connection in the end.
            while socket.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
                let answer = match (head[3], head[4]) {
                    (SETTINGS, 0) => vec![0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0],
                    (HEADERS, _) => {
                        let length = u8::try_from(block.len()).unwrap();
                        let kind = [0, 0, length, HEADERS, END_STREAM_AND_HEADERS];
                        [&kind, &head[5..], block].concat()
                    }
                    _ => continue,
                };
                socket.write_all(&answer).await.unwrap();
            }
        }
    });
    (url, AbortOnDropHandle::new(serving))
}

/// hyperium/h2 #958: a response without `:status` was `200 OK`, which would be a cancel.
#[tokio::test]
async fn a_response_of_http2_without_a_status_is_not_a_success() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    // `:status: 200` in HPACK's static table, and nothing.
    for (block, code) in [(&[0x88][..], None), (&[], Some(Code::Unavailable))] {
        let (url, _serving) = answer_with_block(&authority, block).await;
        let service = Setup::with_token_endpoint(&tokens, &url).ca(&authority.pem()).start().await;
        assert_eq!(service.cancel(NAME).await.err().map(|status| status.code()), code, "{block:?}");
    }
}

/// hyperium/hyper #3724: a request hung when the head of its response was over hyper's limit of 16 KiB. Here, an accepted
/// cancel would be sent four times.
#[tokio::test]
async fn a_response_with_a_head_of_20_kb_is_read() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let server = Http2Server::start(&authority, false, |response| respond_with_head(response, 20));
    let server = server.await;
    let service = server.setup(&authority, &tokens).start().await;
    service.cancel(NAME).await.unwrap();
    assert_eq!(service.audit_log()[0]["attempts"], 1);
}

/// hyperium/hyper #3724, with a head over the limit of the product.
#[tokio::test]
async fn a_response_with_a_head_over_the_limit_is_unavailable_before_the_deadline() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let server = Http2Server::start(&authority, false, |response| respond_with_head(response, 300));
    let server = server.await;
    let service = server.setup(&authority, &tokens).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(service.audit_log()[0]["attempts"], 4);
}

/// hyperium/hyper #2500: requests failed when a connection sent GOAWAY. Here every connection does, so no request can
/// succeed, and the service must neither connect in a tight loop nor outlast the deadline.
#[tokio::test]
async fn connections_that_send_goaway_at_once_are_opened_at_a_bounded_rate() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let server = Http2Server::start(&authority, true, |mut response| {
        response.send_response(Response::new(()), true).map(drop)
    });
    let server = server.await;
    let service = server.setup(&authority, &tokens).timeout("2s").start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status:?}");
    let connections = server.connections.load(Ordering::Relaxed);
    assert!((2..30).contains(&connections), "{connections}");
}

/// rbren/rss-parser #280: a server compressed every response, though no request had `accept-encoding`, and the client
/// parsed the compressed bytes.
#[tokio::test]
async fn a_compressed_response_is_never_a_success() {
    let upstream = Upstream::start().await;
    let compressed =
        |status| Reply::new(status, "application/json", COMPRESSED).header("content-encoding", "gzip");
    upstream.answers([200, 200, 404].map(compressed));
    let service = Setup::of(&upstream).start().await;
    let get = GetOperationRequest { name: NAME.to_owned() };
    for status in
        [service.cancel(NAME).await.unwrap_err(), service.client().get_operation(get).await.unwrap_err()]
    {
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::NotFound);
}

/// grpc/grpc-node #2767: a server must answer UNIMPLEMENTED to a compression that it does not support, and INTERNAL to
/// a compressed message without a compression (gRPC, "Compression", test cases 4 and 6).
#[tokio::test]
async fn a_compressed_request_is_refused_as_the_specification_says() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let compressed = {
        let mut frame = grpc_frame(&by_name(NAME)).to_vec();
        frame[0] = 1;
        Bytes::from(frame)
    };
    for (headers, code) in [
        (&[("grpc-encoding", "gzip")][..], Code::Unimplemented),
        (&[], Code::Internal),
        (&[("grpc-encoding", "identity")], Code::Internal),
    ] {
        let (call, mut body) = service.wire().await.start_without_a_message(headers).await;
        body.send_data(compressed.clone(), true).unwrap();
        let response = call.response().await;
        assert_eq!(response.code(), code, "{headers:?}: {response:?}");
        if code == Code::Unimplemented {
            assert_eq!(response.trailers["grpc-accept-encoding"], "identity");
        }
    }
}

/// Keats/jsonwebtoken #529: one post-quantum key (RFC 9964) in a key set made the whole set unusable.
#[tokio::test]
async fn a_key_of_an_unknown_type_does_not_make_the_key_set_unusable() {
    let key = Key::rsa();
    let unknown = [
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-65", "use": "sig", "pub": "AAAA"}),
        json!({"kty": "RSA", "kid": "enc", "alg": "RSA-OAEP", "use": "enc", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "EC", "kid": "k", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}),
    ];
    let keys = key_set(unknown.into_iter().chain([key.jwk(Some("a"))]));
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).jwt_key_set(&keys).start().await;
    let token = format!("Bearer {}", key.token(Some("a"), &claims()));
    assert_eq!(service.wire().await.cancel(NAME, &[("authorization", &token)]).await.code(), Code::Ok);
    assert_eq!(service.audit_log()[0]["caller"], "jwt:https://issuer.example#console");
}

/// panghu-huang/octocrate #58: jsonwebtoken before 10.3 skipped the check of a claim of the wrong type
/// (CVE-2026-25537).
#[tokio::test]
async fn a_claim_of_the_wrong_type_is_refused() {
    let key = Key::rsa();
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).jwt_key_set(&key_set([key.jwk(Some("a"))])).start().await;
    let wire = service.wire().await;
    for (claim, value) in [
        ("exp", json!("never")),
        ("exp", json!("99999999999")),
        ("exp", json!([99_999_999_999_u64])),
        ("nbf", json!("99999999999")),
        ("iss", json!(["https://issuer.example"])),
        ("aud", json!({"0": "countermand"})),
    ] {
        let mut claims = claims();
        claims[claim] = value;
        let token = format!("Bearer {}", key.token(Some("a"), &claims));
        let response = wire.cancel(NAME, &[("authorization", &token)]).await;
        assert_our_error(&response.status(), Code::Unauthenticated, "INVALID_TOKEN");
    }
}

/// openssl/openssl #16282: a certificate was accepted although the intermediate certificate had expired.
#[tokio::test]
async fn a_client_certificate_of_an_expired_intermediate_is_refused() {
    let root = Authority::new();
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).tls(&root.server(), Some(&root)).start().await;
    let client = |intermediate: &Authority| {
        let mut pair = intermediate.console();
        pair.certificate += &intermediate.pem();
        TlsClient::new(&root, Some(&pair))
    };
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let valid = client(&root.intermediate(now + hour)).connect(service.address).await.unwrap();
    assert_eq!(Wire::over(valid).await.cancel(NAME, &[]).await.code(), Code::Ok);
    let alert = client(&root.intermediate(now - hour)).rejection(service.address).await;
    assert!(alert.contains("CertificateExpired"), "{alert}");
}
