//! The bounds of health and reflection, which need no authentication.

use http::Request;
use tonic::Code;

use crate::support::{
    details::{assert_our_error, assert_our_error_with_retry},
    grpc::request,
    process::eventually,
    service::{Service, Setup},
    upstream::Upstream,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

async fn start() -> (Service, Upstream) {
    let upstream = Upstream::start().await;
    (Setup::of(&upstream).variable("COUNTERMAND_MAX_REQUEST_BYTES", "1024").start().await, upstream)
}

fn call(path: &str) -> Request<()> {
    request(path, &[])
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_it_arrives() {
    let (service, _upstream) = start().await;
    let wire = service.wire().await;
    for path in [CHECK, REFLECTION] {
        let (pending, mut body) = wire.send_headers(call(path)).await;
        // The prefix announces 4 MB, and one byte follows.
        body.send_data(vec![0, 0, 0x3d, 9, 0, 0].into(), false).unwrap();
        let status = pending.response().await.status();
        assert_our_error(&status, Code::InvalidArgument, "REQUEST_TOO_LARGE");
    }
}

#[tokio::test]
async fn the_number_of_health_watches_is_bounded() {
    let (service, _upstream) = start().await;
    let mut connections = Vec::new();
    let mut open = Vec::new();
    // A connection has at most 1,024 streams.
    for _ in 0..3 {
        connections.push(service.wire().await);
    }
    for number in 0..2048 {
        let watch = connections[number / 1000].start_raw(WATCH, &[], &[]).await;
        let mut status = watch.stream().await.expect("a watch");
        // The client closes a connection whose data stays unread.
        status.data().await.unwrap().unwrap();
        open.push(status);
    }
    let refused = connections[2].start_raw(WATCH, &[], &[]).await.response().await.status();
    assert_our_error_with_retry(&refused, Code::Unavailable, "OVERLOADED", 1);
    // A check is still answered, and a closed connection leaves its places to others.
    assert_eq!(connections[2].start_raw(CHECK, &[], &[]).await.response().await.code(), Code::Ok);
    connections.remove(0).disconnect();
    let wire = service.wire().await;
    let _watch =
        eventually("a place for a watch", async || wire.start_raw(WATCH, &[], &[]).await.stream().await)
            .await;
}

#[tokio::test]
async fn the_number_of_reflection_streams_is_bounded() {
    let (service, _upstream) = start().await;
    let wire = service.wire().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(wire.send_headers(call(REFLECTION)).await);
    }
    let (pending, _body) = wire.send_headers(call(REFLECTION)).await;
    let status = pending.response().await.status();
    assert_our_error_with_retry(&status, Code::Unavailable, "OVERLOADED", 1);
    // A stream that ends leaves its place to another.
    let (ended, mut body) = open.pop().unwrap();
    body.send_data(Default::default(), true).unwrap();
    assert_eq!(ended.response().await.code(), Code::Ok);
    let (pending, mut body) = wire.send_headers(call(REFLECTION)).await;
    body.send_data(Default::default(), true).unwrap();
    assert_eq!(pending.response().await.code(), Code::Ok);
}
