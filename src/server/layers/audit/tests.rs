use std::{
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tempfile::TempDir;
use tonic::{Status, body::Body};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{
    background::Background,
    config::{self, Destination, OnFailure},
    server::layers::panics::Panics,
};

/// What answers below the recorder, and holds nothing.
type Answer = Result<Response<Body>, Infallible>;

/// What a call of `CancelOperation` meets there.
type Below = fn() -> BoxFuture<'static, Answer>;

/// A recorder, and where its lines go.
fn recorder(room: &TempDir, on_failure: OnFailure) -> Recorder {
    let destination = Destination::File(room.path().join("audit.jsonl"));
    let settings = config::Audit { destination, on_failure };
    Recorder::new(Audit::start(&settings, &Background::unsupervised()).unwrap())
}

fn audited<S>(
    service: S,
    recorder: Recorder,
) -> impl Service<Request<()>, Response = Response<Held>, Error = Infallible, Future: Send> + Clone
where
    S: Service<Request<()>, Response = Response<Body>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
{
    Audited::new(service.map_response(|answer: Response<Body>| answer.map(Held::from)), recorder)
}

fn request(method: &str) -> Request<()> {
    Request::post(format!("/google.longrunning.Operations/{method}")).body(()).unwrap()
}

/// The code, and the lines so far.
async fn call(room: &TempDir, recorder: &Recorder, method: &str, below: Below) -> (Code, Vec<Value>) {
    let service = Panics::new(service_fn(move |_: Request<()>| below()));
    let answer = audited(service, recorder.clone()).oneshot(request(method)).await;
    (code(&answer.unwrap()), lines(room))
}

fn lines(room: &TempDir) -> Vec<Value> {
    let log = std::fs::read_to_string(room.path().join("audit.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ok() -> BoxFuture<'static, Answer> {
    async { Ok(Response::new(Body::empty())) }.boxed()
}

#[tokio::test]
async fn a_defect_leaves_a_line() {
    let room = tempfile::tempdir().unwrap();
    let recorder = recorder(&room, OnFailure::Fail);
    let (code, lines) =
        call(&room, &recorder, "GetOperation", || async { panic!("on purpose") }.boxed()).await;
    assert_eq!(code, Code::Internal);
    assert_eq!((&lines[0]["method"], &lines[0]["code"]), (&"GetOperation".into(), &"INTERNAL".into()));
    assert!(lines[0].get("decision").is_none());
}

#[tokio::test]
async fn who_did_not_prove_who_calls_is_denied() {
    let room = tempfile::tempdir().unwrap();
    let recorder = recorder(&room, OnFailure::Fail);
    let below: Below = || async { Ok(Status::unauthenticated("").into_http()) }.boxed();
    let (code, lines) = call(&room, &recorder, "CancelOperation", below).await;
    assert_eq!(code, Code::Unauthenticated);
    assert_eq!((&lines[0]["decision"], &lines[0]["code"]), (&"deny".into(), &"UNAUTHENTICATED".into()));
}

#[tokio::test]
async fn nothing_is_done_for_a_call_that_cannot_be_recorded() {
    let room = tempfile::tempdir().unwrap();
    symlink("/dev/full", room.path().join("audit.jsonl")).unwrap();
    let recorder = recorder(&room, OnFailure::Fail);
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let service = service_fn(move |_: Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        ok()
    });
    let service = audited(service, recorder.clone());
    for _ in 0..3 {
        let answer = service.clone().oneshot(request("CancelOperation")).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(begun.load(Ordering::Relaxed), 1, "the first met it, and the others are refused");
    }
    std::fs::remove_file(room.path().join("audit.jsonl")).unwrap();
    recorder.finish().await;
    let codes: Vec<_> = lines(&room).iter().map(|line| line["code"].clone()).collect();
    assert_eq!(codes, ["OK", "UNAVAILABLE", "UNAVAILABLE"], "what was kept is written in the end");
}

#[tokio::test]
async fn a_call_is_answered_all_the_same_when_that_is_wanted() {
    let room = tempfile::tempdir().unwrap();
    symlink("/dev/full", room.path().join("audit.jsonl")).unwrap();
    let recorder = recorder(&room, OnFailure::Continue);
    for _ in 0..3 {
        let service = audited(service_fn(|_: Request<()>| ok()), recorder.clone());
        let answer = service.oneshot(request("CancelOperation")).await.unwrap();
        assert_eq!(code(&answer), Code::Ok);
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_end_is_cut_and_recorded() {
    let room = tempfile::tempdir().unwrap();
    let recorder = recorder(&room, OnFailure::Fail);
    let below: Below = || std::future::pending().boxed();
    let (hung_up, stays) = (
        audited(service_fn(move |_: Request<()>| below()), recorder.clone())
            .oneshot(request("CancelOperation")),
        audited(service_fn(move |_: Request<()>| below()), recorder.clone()).oneshot(request("GetOperation")),
    );
    let mut hung_up = Box::pin(hung_up);
    assert!(futures_util::poll!(&mut hung_up).is_pending());
    drop(hung_up);
    let (answer, ()) = tokio::join!(stays, recorder.finish());
    assert_eq!(code(&answer.unwrap()), Code::Unavailable);
    let mut ends: Vec<_> =
        lines(&room).iter().map(|line| format!("{} {}", line["method"], line["code"])).collect();
    ends.sort_unstable();
    assert_eq!(ends, [r#""CancelOperation" "UNAVAILABLE""#, r#""GetOperation" "UNAVAILABLE""#]);
}
