//! The `:authority` that clients send. On a unix socket, a call with an invalid one is served. On TCP, it is logged.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

use crate::support::{
    account,
    process::{Process, countermand},
    raw_client::{HEADERS, RST_STREAM, RawClient, frame},
    reply::Reply,
    service::{Service, Setup},
    tls::Authority,
    tls_client::TlsClient,
    upstream::Upstream,
    with_timeout,
};

const DATA: u8 = 0;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The first entry of the dynamic table, as an indexed field (RFC 7541, section 6.1).
const FIRST_ENTRY: &[u8] = &[0xbe];

/// Huffman-coded `run%2Fmdm%2Fcountermand.sock`.
const CODED_PATH: &[u8] =
    b"\xb2\xda\x95\x16\x1a\x64\xa5\x51\x61\x21\xed\xa9\x25\xb2\x91\xd5\x22\xe8\x39\x3a\xff";

/// `:authority` as a literal with indexing (RFC 7541, section 6.2.1).
fn indexed(authority: &[u8]) -> Vec<u8> {
    [&[0x41, u8::try_from(authority.len()).unwrap()], authority].concat()
}

/// The header block of a cancel with this field for `:authority`, which is the second field.
fn block(authority: &[u8]) -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], part(name), part(value)].concat()
    };
    [
        literal(":method", "POST"),
        authority.to_vec(),
        literal(":scheme", "http"),
        literal(":path", "/google.longrunning.Operations/CancelOperation"),
        literal("te", "trailers"),
        literal("content-type", "application/grpc"),
    ]
    .concat()
}

/// The DATA frame of a cancel of an operation with this number.
fn message(stream: u32) -> Vec<u8> {
    let name = format!("enterprises/LC01/devices/d1/operations/{stream:05}");
    frame(DATA, END_STREAM, stream, &[&[0, 0, 0, 0, 46, 10, 44][..], name.as_bytes()].concat())
}

/// The frames of a cancel.
fn call(stream: u32, authority: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &block(authority)), message(stream)].concat()
}

/// Waits for the responses to `calls`. Asserts that no stream is reset before.
async fn wait_for_responses(raw: &mut RawClient<UnixStream>, calls: usize) {
    with_timeout("the responses", async {
        // A response has headers and trailers.
        let mut left = 2 * calls;
        while left > 0 {
            match raw.read().await.expect("an open connection").0 {
                HEADERS => left -= 1,
                other => assert_ne!(other, RST_STREAM, "a call is reset"),
            }
        }
    })
    .await;
}

async fn start(upstream: &Upstream) -> (Service, RawClient<UnixStream>) {
    upstream.always_answers(Reply::ok());
    let service = Setup::of(upstream).unix().start().await;
    let raw = RawClient::over(UnixStream::connect(service.unix_socket()).await.unwrap()).await;
    (service, raw)
}

/// Makes two calls on a new connection to a unix socket. The second refers to the authority of the first.
async fn assert_served(first: impl FnOnce(u32) -> Vec<u8>) {
    let upstream = Upstream::start().await;
    let (service, mut raw) = start(&upstream).await;
    for frames in [first(1), call(3, FIRST_ENTRY)] {
        raw.send(&frames).await;
        wait_for_responses(&mut raw, 1).await;
    }
    let log = service.audit_log();
    assert_eq!(log.len(), 2);
    for line in log {
        assert_eq!((&line["method"], &line["code"]), (&"CancelOperation".into(), &"OK".into()));
    }
}

/// grpc/grpc #38142: since 1.57, the C core (Python, C++, Ruby, PHP) sends the percent-encoded path of a unix socket.
#[tokio::test]
async fn the_percent_encoded_path_of_a_unix_socket_is_accepted() {
    assert_served(|stream| call(stream, &indexed(b"run%2Fmdm%2Fcountermand.sock"))).await;
}

/// grpc/grpc-java #12664: grpc-java's Netty transport sends the path of a unix socket, as grpc-go did before 1.42
/// (hyperium/h2 #442).
#[tokio::test]
async fn the_path_of_a_unix_socket_is_accepted() {
    assert_served(|stream| call(stream, &indexed(b"/run/mdm/countermand.sock"))).await;
}

/// grpc/grpc-swift-nio-transport #176: the Swift transport sends the percent-encoded path, and Huffman-codes it.
#[tokio::test]
async fn a_huffman_coded_path_is_accepted() {
    let coded = [&[0x41, 0x80 | u8::try_from(CODED_PATH.len()).unwrap()], CODED_PATH].concat();
    assert_served(|stream| call(stream, &coded)).await;
}

/// RFC 9113, section 6.10: a header block may continue in CONTINUATION frames, at any byte.
#[tokio::test]
async fn a_path_in_several_frames_is_accepted() {
    assert_served(|stream| {
        let block = block(&indexed(b"/run/mdm/countermand.sock"));
        // The second field, `:authority`, starts at byte 13.
        let cuts = [0, 14, 20, 30, block.len()];
        let mut frames = Vec::new();
        for (index, cut) in cuts.windows(2).enumerate() {
            let kind = if index == 0 { HEADERS } else { CONTINUATION };
            let flags = if cut[1] == block.len() { END_HEADERS } else { 0 };
            frames.extend(frame(kind, flags, stream, &block[cut[0]..cut[1]]));
        }
        [frames, message(stream)].concat()
    })
    .await;
}

/// RFC 9113, section 6.2: HEADERS may have priority fields and padding.
#[tokio::test]
async fn a_path_in_a_padded_frame_with_a_priority_is_accepted() {
    assert_served(|stream| {
        let block = block(&indexed(b"/run/mdm/countermand.sock"));
        let payload = [&[20, 0, 0, 0, 0, 15][..], &block, &[0; 20]].concat();
        [frame(HEADERS, END_HEADERS | PADDED | PRIORITY, stream, &payload), message(stream)].concat()
    })
    .await;
}

/// hyperium/h2 #487: "Do not require authority for UNIX domain sockets". Bytes may arrive one by one.
#[tokio::test]
async fn a_path_that_arrives_in_pieces_is_accepted() {
    let upstream = Upstream::start().await;
    let (service, mut raw) = start(&upstream).await;
    for byte in call(1, &indexed(b"/run/mdm/countermand.sock")) {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    wait_for_responses(&mut raw, 1).await;
    assert_eq!(service.audit_log()[0]["code"], "OK");
}

/// grpc/grpc-rust #243: a CSI driver, whose clients call over a unix socket. Calls with several authorities share a
/// connection and its dynamic table.
#[tokio::test]
async fn concurrent_calls_with_several_authorities_are_served() {
    const CALLS: usize = 60;
    let upstream = Upstream::start().await;
    let (service, mut raw) = start(&upstream).await;
    let authorities: [Vec<u8>; 4] = [
        indexed(b"/run/mdm/countermand.sock"),
        indexed(b"localhost"),
        // The two entries.
        vec![0xbf],
        vec![0xbe],
    ];
    let streams = (1_u32..).step_by(2).take(CALLS);
    let frames = streams.zip(authorities.iter().cycle()).map(|(stream, authority)| call(stream, authority));
    raw.send(&frames.collect::<Vec<_>>().concat()).await;
    wait_for_responses(&mut raw, CALLS).await;
    assert_eq!(service.audit_log().len(), CALLS);
    assert!(service.audit_log().iter().all(|line| line["code"] == "OK"));
}

/// A service as a process, with TLS if there is an authority, and its log.
struct Logged {
    process: Process,
    address: std::net::SocketAddr,
    _files: tempfile::TempDir,
}

impl Logged {
    async fn start(upstream: &Upstream, authority: Option<&Authority>) -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("key.json"), account::key_file(&upstream.token_url())).unwrap();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"];
        let mut command = countermand(&arguments);
        command.current_dir(&files).args(["--credentials", "key.json", "--upstream-url", upstream.url()]);
        if let Some(authority) = authority {
            authority.server().write(&files.path().join("tls.crt"), &files.path().join("tls.key"));
            command.env("COUNTERMAND_SERVER_TLS_CERTIFICATE", "tls.crt");
            command.env("COUNTERMAND_SERVER_TLS_PRIVATE_KEY", "tls.key");
        }
        let process = Process::start(&mut command);
        let listening = |log: &str| log.split_once("listening address=")?.1.lines().next()?.parse().ok();
        let address = process.stderr.see(listening).await;
        Self { process, address, _files: files }
    }

    /// Makes calls with an invalid authority, and asserts that the log has one line about them.
    async fn assert_logs_once<S: AsyncRead + AsyncWrite + Unpin>(self, mut raw: RawClient<S>) {
        for (stream, authority) in [(1, &indexed(b"outbound|50051||a.mdm")[..]), (3, FIRST_ENTRY)] {
            raw.send(&call(stream, authority)).await;
            with_timeout("the reset", async { while raw.read().await.unwrap().0 != RST_STREAM {} }).await;
        }
        self.process.stderr.has("reset a call whose :authority is invalid").await;
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let log = self.process.end().await.stderr;
        let lines: Vec<_> = log.lines().filter(|line| line.contains(":authority")).collect();
        let [line] = lines[..] else { panic!("{log}") };
        assert!(line.contains(" WARN countermand::server::authority: "), "{line}");
        assert!(line.contains(r#"authority="outbound|50051||a.mdm""#), "{line}");
        assert!(line.contains("grpc.default_authority") && line.contains("grpc_health_check"), "{line}");
    }
}

/// envoyproxy/envoy #5238: Envoy's gRPC health check sends the cluster's name, which is no authority in Istio.
#[tokio::test]
async fn an_invalid_authority_on_tcp_is_logged_once() {
    let upstream = Upstream::start().await;
    let service = Logged::start(&upstream, None).await;
    let raw = RawClient::open(service.address).await;
    service.assert_logs_once(raw).await;
}

/// envoyproxy/envoy #5238, over TLS.
#[tokio::test]
async fn an_invalid_authority_on_tls_is_logged_once() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let service = Logged::start(&upstream, Some(&authority)).await;
    let tls = TlsClient::new(&authority, None).connect(service.address).await.unwrap();
    let raw = RawClient::over(tls).await;
    service.assert_logs_once(raw).await;
}
