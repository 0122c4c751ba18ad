//! Calls whose message is missing or incomplete. They end at their deadline and then release their permit.

use std::time::Duration;

use bytes::Bytes;
use countermand::server::Drained;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::assert_our_error,
        grpc::{Wire, by_name, grpc_frame},
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// Sends `part` of a message without END_STREAM. Asserts DEADLINE_EXCEEDED and one audit line.
async fn assert_deadline_exceeded(service: &Service, wire: &Wire, headers: &[(&str, &str)], part: &[u8]) {
    let lines = service.audit_log().len();
    let (started, mut body) = wire.start_without_a_message(headers).await;
    if !part.is_empty() {
        body.send_data(Bytes::copy_from_slice(part), false).unwrap();
    }
    assert_our_error(&started.response().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let log = service.audit_log();
    let [line] = &log[lines..] else { panic!("not one line: {:?}", &log[lines..]) };
    let fields = json!([line["method"], line["caller"], line["name"], line["decision"], line["code"]]);
    assert_eq!(fields, json!(["CancelOperation", "anonymous", null, null, "DEADLINE_EXCEEDED"]));
}

#[tokio::test]
async fn the_callers_deadline_ends_an_incomplete_request_and_releases_its_permit() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).timeout("1h").max_concurrent_calls(1).start().await;
    let wire = service.wire().await;
    let whole = grpc_frame(&by_name(NAME));
    for part in [&[], &whole[..3], &whole[..20], &whole[..]] {
        assert_deadline_exceeded(&service, &wire, &[("grpc-timeout", "200m")], part).await;
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
}

#[tokio::test]
async fn a_disconnect_before_the_message_is_recorded_as_cancelled_not_invalid() {
    let upstream = Upstream::start().await;
    for part in [&[][..], &grpc_frame(&by_name(NAME))[..20]] {
        let service = Setup::of(&upstream).start().await;
        let wire = service.wire().await;
        let (started, mut body) = wire.start_without_a_message(&[]).await;
        if !part.is_empty() {
            body.send_data(Bytes::copy_from_slice(part), false).unwrap();
        }
        wire.wait_until_received().await;
        drop((body, started));
        let line = service.audit_line("CancelOperation", "CANCELLED").await;
        assert_eq!(json!([line["caller"], line["name"], line["decision"]]), json!(["anonymous", null, null]));
    }
}

#[tokio::test]
async fn the_upstream_timeout_ends_an_incomplete_request_without_a_shorter_deadline() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("200ms").start().await;
    let wire = service.wire().await;
    for headers in [&[][..], &[("grpc-timeout", "1H")]] {
        assert_deadline_exceeded(&service, &wire, headers, &[]).await;
    }
}

#[tokio::test]
async fn a_message_sent_byte_by_byte_does_not_extend_the_deadline() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("1h").start().await;
    let wire = service.wire().await;
    let (started, mut body) = wire.start_without_a_message(&[("grpc-timeout", "300m")]).await;
    let response = started.response();
    let trickle = async {
        for byte in grpc_frame(&[0; 60_000]).chunks(1) {
            // Sending fails after the call is answered.
            if body.send_data(Bytes::copy_from_slice(byte), false).is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (response, ()) = with_timeout("the response", futures_util::future::join(response, trickle)).await;
    assert_our_error(&response.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_drain_does_not_wait_beyond_the_deadline_of_an_incomplete_request() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).timeout("500ms").start().await;
    let wire = service.wire().await;
    let (started, _body) = wire.start_without_a_message(&[]).await;
    wire.wait_until_received().await;
    assert_eq!(service.drain().await, Drained::Whole);
    assert_our_error(&started.response().await.status(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}
