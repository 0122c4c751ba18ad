//! Calls whose message does not come, or not all of it: they end with their time, as every other call does,
//! and hold no place longer.

use std::time::Duration;

use bytes::Bytes;
use countermand::server::Drained;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::assert_ours,
        grpc::{Wire, by_name, framed},
        reply::Reply,
        service::{Service, Setup},
        soon,
        upstream::Upstream,
    },
    wire::NAME,
};

/// What comes of a call of which only `part` is sent, without an end.
async fn is_late(service: &Service, wire: &Wire, headers: &[(&str, &str)], part: &[u8]) {
    let lines = service.audit_log().len();
    let (started, mut body) = wire.start_without_a_message(headers).await;
    if !part.is_empty() {
        body.send_data(Bytes::copy_from_slice(part), false).unwrap();
    }
    assert_ours(&started.answer().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let log = service.audit_log();
    let [line] = &log[lines..] else { panic!("one call, one line: {:?}", &log[lines..]) };
    let told = json!([line["method"], line["caller"], line["name"], line["decision"], line["code"]]);
    assert_eq!(told, json!(["CancelOperation", "anonymous", null, null, "DEADLINE_EXCEEDED"]));
}

#[tokio::test]
async fn the_callers_deadline_ends_a_call_whose_message_is_not_there_and_frees_its_place() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).timeout("1h").places(1).start().await;
    let wire = service.wire().await;
    let whole = framed(&by_name(NAME));
    for part in [&[], &whole[..3], &whole[..20], &whole[..]] {
        is_late(&service, &wire, &[("grpc-timeout", "200m")], part).await;
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
}

#[tokio::test]
async fn who_goes_before_the_message_has_come_is_recorded_as_gone_and_not_as_wrong() {
    let upstream = Upstream::start().await;
    for part in [&[][..], &framed(&by_name(NAME))[..20]] {
        let service = Setup::of(&upstream).start().await;
        let wire = service.wire().await;
        let (started, mut body) = wire.start_without_a_message(&[]).await;
        if !part.is_empty() {
            body.send_data(Bytes::copy_from_slice(part), false).unwrap();
        }
        wire.taken_up().await;
        drop((body, started));
        let line = service.recorded("CancelOperation", "CANCELLED").await;
        assert_eq!(json!([line["caller"], line["name"], line["decision"]]), json!(["anonymous", null, null]));
    }
}

#[tokio::test]
async fn the_upstreams_timeout_ends_it_when_the_caller_says_nothing_or_more() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("200ms").start().await;
    let wire = service.wire().await;
    for headers in [&[][..], &[("grpc-timeout", "1H")]] {
        is_late(&service, &wire, headers, &[]).await;
    }
}

#[tokio::test]
async fn a_message_that_comes_byte_by_byte_buys_no_time() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("1h").start().await;
    let wire = service.wire().await;
    let (started, mut body) = wire.start_without_a_message(&[("grpc-timeout", "300m")]).await;
    let answer = started.answer();
    let trickle = async {
        for byte in framed(&[0; 60_000]).chunks(1) {
            // It fails once the call is answered.
            if body.send_data(Bytes::copy_from_slice(byte), false).is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (answer, ()) = soon("the answer", futures_util::future::join(answer, trickle)).await;
    assert_ours(&answer.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn it_does_not_hold_a_drain() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("500ms").start().await;
    let wire = service.wire().await;
    let (started, _body) = wire.start_without_a_message(&[]).await;
    wire.taken_up().await;
    assert_eq!(service.drain().await, Drained::Complete);
    assert_ours(&started.answer().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}
