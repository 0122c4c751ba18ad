//! Callers who do not read their answers: until an answer is sent its call is in flight, for the limit on
//! calls and for a drain.

use std::time::{Duration, Instant};

use countermand::{proto::longrunning::ListOperationsRequest, server::Drained};
use http::Response;
use prost::Message;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};
use tonic::Code;

use crate::{
    support::{
        grpc::{CANCEL, LIST, Wire, by_name},
        reply::Reply,
        service::{Service, Setup},
        soon,
        upstream::Upstream,
    },
    wire::NAME,
};

/// What a client's windows let pass before it reads.
const WINDOW: usize = 65_535;

/// A page that is many times that.
fn long_page() -> Value {
    let operation = |id| json!({"name": format!("{NAME}{id}"), "metadata": {"text": "x".repeat(1000)}});
    json!({"operations": (0..600).map(operation).collect::<Vec<_>>()})
}

/// How much of the answer there surely is.
const SURELY: usize = 600_000;

/// Begins a list. Its answer is there when this returns, and nothing of its body has been read.
async fn begin(upstream: &Upstream, wire: &Wire) -> Response<h2::RecvStream> {
    upstream.answers([Reply::json(200, &long_page())]);
    let device =
        ListOperationsRequest { name: "enterprises/LC01/devices/d1".to_owned(), ..Default::default() };
    let list = wire.start_raw(LIST, &[], &device.encode_to_vec()).await;
    let answer = soon("the head of the answer", list.0).await.unwrap();
    assert_eq!(answer.headers().get("grpc-status"), None, "it is no error");
    answer
}

/// Reads it to its end, which is OK; before it lets more of it come, `pause` sees how much there was.
async fn read(answer: Response<h2::RecvStream>, mut pause: impl AsyncFnMut(usize)) {
    let mut body = answer.into_body();
    let mut size = 0;
    while let Some(piece) = soon("more of the answer", body.data()).await {
        let piece = piece.unwrap();
        size += piece.len();
        pause(size).await;
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert!(size > SURELY, "{size}");
    let trailers = soon("the trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// Waits until there is a place, and a call is answered OK.
async fn gets_a_place(upstream: &Upstream, service: &Service) {
    upstream.always_answers(Reply::ok());
    let wire = service.wire().await;
    soon("a place", async { while wire.cancel(NAME, &[]).await.code() != Code::Ok {} }).await;
}

#[tokio::test]
async fn a_call_holds_its_place_until_its_answer_has_been_sent() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).places(1).start().await;
    let (wire, other) = (service.wire().await, service.wire().await);
    let answer = begin(&upstream, &wire).await;
    for _ in 0..3 {
        assert_eq!(other.cancel(NAME, &[]).await.code(), Code::Unavailable);
    }
    read(answer, async |_| {}).await;
    gets_a_place(&upstream, &service).await;
}

#[tokio::test]
async fn who_resets_the_call_or_goes_gives_the_place_back() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).places(1).start().await;
    let wire = service.wire().await;
    drop(begin(&upstream, &wire).await);
    gets_a_place(&upstream, &service).await;
    let answer = begin(&upstream, &wire).await;
    wire.hang_up();
    gets_a_place(&upstream, &service).await;
    drop(answer);
}

#[tokio::test]
async fn a_drain_waits_until_a_slow_reader_has_its_answer() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let (address, wire) = (service.address, service.wire().await);
    let answer = begin(&upstream, &wire).await;
    let drain = tokio::spawn(service.drain());
    soon("the refusal of connections", async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // A second and more in all: longer than idle connections are given.
    read(answer, async |size| {
        sleep(Duration::from_millis(40)).await;
        assert!(!drain.is_finished() || size > SURELY - WINDOW, "it has not been sent yet");
    })
    .await;
    assert_eq!(soon("the end of the drain", drain).await.unwrap(), Drained::Complete);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_cut_at_the_end_of_the_drain_and_that_is_told() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).variable("COUNTERMAND_DRAIN_TIMEOUT", "3s").start().await;
    let wire = service.wire().await;
    let _answer = begin(&upstream, &wire).await;
    assert_eq!(service.drain().await, Drained::TimedOut { calls: 1 });
}

/// A drain that lasts until then has waited for more than `upstream.timeout`, which is shorter below.
const LONG: Duration = Duration::from_secs(10);

/// Callers who open no window, with answers on their way for which they will not let in a byte. They go on
/// answering pings.
async fn never_reads(service: &Service, calls: usize) -> (Wire, Vec<Response<h2::RecvStream>>) {
    let wire = Wire::open_without_a_window(service.address).await;
    let mut answers = Vec::new();
    for _ in 0..calls {
        let call = wire.start_raw(CANCEL, &[], &by_name(NAME)).await;
        let answer = soon("the head of the answer", call.0).await.unwrap();
        assert_eq!(answer.headers().get("grpc-status"), None, "it is no error");
        answers.push(answer);
    }
    (wire, answers)
}

#[tokio::test]
async fn who_reads_nothing_for_too_long_is_cut_off_and_others_get_the_places() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).places(4).timeout("1s").start().await;
    let (_greedy, answers) = never_reads(&service, 4).await;
    let other = service.wire().await;
    assert_eq!(other.cancel(NAME, &[]).await.code(), Code::Unavailable, "all places are taken");
    gets_a_place(&upstream, &service).await;
    for answer in answers {
        let broken = soon("the end of an answer", answer.into_body().data()).await;
        broken.unwrap().unwrap_err();
    }
    assert!(other.takes_calls().await, "only the one who does not read is cut off");
}

#[tokio::test]
async fn a_drain_does_not_wait_longer_than_that_for_who_reads_nothing() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    // Longer than new connections are taken after the drain began, so that GOAWAY comes first.
    let setup = Setup::of(&upstream).timeout("3s");
    let service = setup.variable("COUNTERMAND_DRAIN_TIMEOUT", "1m").start().await;
    let (_wire, _answers) = never_reads(&service, 1).await;
    let begun = Instant::now();
    service.drain().await;
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reader_who_is_slow_but_goes_on_has_the_whole_answer() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("2s").start().await;
    let wire = service.wire().await;
    let answer = begin(&upstream, &wire).await;
    let begun = Instant::now();
    read(answer, async |_| sleep(Duration::from_millis(80)).await).await;
    assert!(begun.elapsed() > Duration::from_secs(2), "it was no slow reader");
}
