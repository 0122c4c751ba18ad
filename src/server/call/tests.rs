use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::HeaderName;
use serde_json::Value;
use tempfile::TempDir;
use tower::service_fn;

use super::*;
use crate::{
    audit::settings::{self, Destination, OnFailure},
    background::Background,
    server::{
        identity::Identities,
        peer::{Peer, PeerOrigin},
        settings::Callers,
    },
    telemetry::metrics::{CODES, Metrics},
};

type Handled = Result<Response<Body>, Infallible>;

/// A fake of the contract's service.
type Handler = fn() -> BoxFuture<'static, Handled>;

/// Calls with an audit log in `directory`.
fn calls(directory: &TempDir, on_failure: OnFailure) -> Arc<Calls> {
    let file = Destination::File(directory.path().join("audit.jsonl"));
    let (metrics, _) = Metrics::new();
    let audit =
        Audit::start(&settings::Audit { file, on_failure }, metrics.audit, &Background::unsupervised())
            .unwrap();
    Calls::new(&Limits::default(), Duration::from_secs(30), audit, metrics.calls, None, TaskTracker::new())
}

fn identity() -> PeerIdentity {
    let identities =
        Arc::new(Identities::new(&Callers::default(), None, &Background::unsupervised()).unwrap());
    identities.of_peer(&Peer { origin: PeerOrigin::Loopback, certificate: None })
}

fn request(method: &str) -> Request<Full<Bytes>> {
    let request = Request::post(format!("{SERVICE_PATH}{method}"));
    request.header(header::CONTENT_TYPE, "application/grpc").body(Full::default()).unwrap()
}

/// Starts a call of `method` that `handler` answers.
fn start_call(calls: &Arc<Calls>, method: &str, handler: Handler) -> InFlight {
    let service = service_fn(move |_: Request<Full<Bytes>>| handler());
    start(calls, service, &identity(), request(method))
}

fn code_of(response: &Response<ResponseBody>) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// Ends all calls and reads the audit lines.
async fn lines(directory: &TempDir, calls: &Calls) -> Vec<Value> {
    calls.abort();
    calls.in_flight.close();
    calls.in_flight.wait().await;
    calls.audit.end().await;
    let log = std::fs::read_to_string(directory.path().join("audit.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ok() -> BoxFuture<'static, Handled> {
    async { Ok(Response::new(Body::empty())) }.boxed()
}

#[tokio::test]
async fn a_panic_is_answered_and_recorded() {
    let later: Handler = || async { if true { panic!("on purpose") } else { ok().await } }.boxed();
    for handler in [|| panic!("at once"), later] {
        let directory = tempfile::tempdir().unwrap();
        let calls = calls(&directory, OnFailure::Fail);
        let response = start_call(&calls, "GetOperation", handler).await;
        assert_eq!(code_of(&response), Code::Internal);
        drop(response);
        let lines = lines(&directory, &calls).await;
        assert_eq!((&lines[0]["method"], &lines[0]["code"]), (&"GetOperation".into(), &"INTERNAL".into()));
        assert!(lines[0].get("decision").is_none());
    }
}

#[tokio::test]
async fn calls_are_refused_when_the_audit_log_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    symlink("/dev/full", directory.path().join("audit.jsonl")).unwrap();
    let calls = calls(&directory, OnFailure::Fail);
    let served = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let counted = Arc::clone(&served);
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            counted.fetch_add(1, Ordering::Relaxed);
            ok()
        });
        let response = start(&calls, service, &identity(), request("CancelOperation")).await;
        assert_eq!(code_of(&response), Code::Unavailable);
        assert_eq!(
            served.load(Ordering::Relaxed),
            1,
            "the first call detects the error, and the others are refused"
        );
    }
    std::fs::remove_file(directory.path().join("audit.jsonl")).unwrap();
    let codes: Vec<_> = lines(&directory, &calls).await.iter().map(|line| line["code"].clone()).collect();
    assert_eq!(codes, ["OK", "UNAVAILABLE", "UNAVAILABLE"], "the kept lines are written at the end");
}

#[tokio::test]
async fn calls_are_served_without_an_audit_log_when_on_failure_is_continue() {
    let directory = tempfile::tempdir().unwrap();
    symlink("/dev/full", directory.path().join("audit.jsonl")).unwrap();
    let calls = calls(&directory, OnFailure::Continue);
    for _ in 0..3 {
        assert_eq!(code_of(&start_call(&calls, "CancelOperation", ok).await), Code::Ok);
    }
}

#[tokio::test]
async fn an_aborted_call_is_answered_and_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let calls = calls(&directory, OnFailure::Fail);
    let hangs: Handler = || std::future::pending().boxed();
    let mut disconnects = start_call(&calls, "CancelOperation", hangs);
    assert!(futures_util::poll!(&mut disconnects).is_pending());
    drop(disconnects);
    let stays = tokio::spawn(start_call(&calls, "GetOperation", hangs).map(|response| code_of(&response)));
    tokio::task::yield_now().await;
    let mut recorded: Vec<_> = lines(&directory, &calls)
        .await
        .iter()
        .map(|line| format!("{} {}", line["method"], line["code"]))
        .collect();
    assert_eq!(stays.await.unwrap(), Code::Unavailable);
    recorded.sort_unstable();
    assert_eq!(recorded, [r#""CancelOperation" "UNAVAILABLE""#, r#""GetOperation" "UNAVAILABLE""#]);
}

#[tokio::test]
async fn a_close_waits_for_the_lines_of_all_calls_and_lets_no_call_start() {
    let directory = tempfile::tempdir().unwrap();
    let calls = calls(&directory, OnFailure::Fail);
    let hangs: Handler = || std::future::pending().boxed();
    let stays = tokio::spawn(start_call(&calls, "GetOperation", hangs).map(|response| code_of(&response)));
    let mut disconnects = start_call(&calls, "WaitOperation", hangs);
    assert!(futures_util::poll!(&mut disconnects).is_pending());
    drop(disconnects);
    let mut close = std::pin::pin!(calls.close());
    assert!(futures_util::poll!(&mut close).is_pending());
    let mut late = start_call(&calls, "CancelOperation", ok);
    calls.abort();
    close.await;
    calls.audit.end().await;
    assert_eq!(stays.await.unwrap(), Code::Unavailable);
    assert!(futures_util::poll!(&mut late).is_pending(), "a call without a line has no response");
    let mut recorded: Vec<_> = lines(&directory, &calls)
        .await
        .iter()
        .map(|line| format!("{} {}", line["method"], line["code"]))
        .collect();
    recorded.sort_unstable();
    assert_eq!(recorded, [r#""GetOperation" "UNAVAILABLE""#, r#""WaitOperation" "CANCELLED""#]);
}

fn timeout_of(text: &[u8]) -> Result<Option<Duration>, InvalidTimeout> {
    let value = HeaderValue::from_bytes(text).expect("a header");
    grpc_timeout(&HeaderMap::from_iter([(HeaderName::from_static("grpc-timeout"), value)]))
}

#[test]
fn grpc_timeout_accepts_every_unit() {
    for (text, nanos) in [
        ("0n", 0),
        ("99999999n", 99_999_999),
        ("2u", 2_000),
        ("30m", 30_000_000),
        ("1S", 1_000_000_000),
        ("2M", 120_000_000_000),
        ("1H", 3_600_000_000_000),
    ] {
        assert_eq!(timeout_of(text.as_bytes()), Ok(Some(Duration::from_nanos(nanos))), "{text}");
    }
    assert!(timeout_of(b"99999999H").is_ok_and(|timeout| timeout.is_some()));
    assert_eq!(grpc_timeout(&HeaderMap::new()), Ok(None));
}

#[test]
fn grpc_timeout_rejects_malformed_values() {
    for text in [&b""[..], b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S", b"1 S", b"\xff"] {
        assert_eq!(timeout_of(text), Err(InvalidTimeout), "{text:?}");
    }
}

fn is_grpc_type(content_type: &'static str) -> bool {
    is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]))
}

#[test]
fn the_grpc_content_type_may_have_a_format_and_parameters() {
    for grpc in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;charset=utf-8",
        "application/grpc ; x=y",
        "Application/gRPC",
    ] {
        assert!(is_grpc_type(grpc), "{grpc}");
    }
}

#[test]
fn another_content_type_is_not_grpc() {
    for other in [
        "",
        "text/plain",
        "application/json",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpcx",
        "application/grp",
        " application/grpc",
        "text/plain;application/grpc",
    ] {
        assert!(!is_grpc_type(other), "{other}");
    }
    assert!(!is_grpc(&HeaderMap::new()));
}

#[test]
fn the_metrics_name_each_code() {
    for (number, name) in (0..).zip(CODES) {
        assert_eq!(status::code_name(Code::from(number)), name);
    }
}
