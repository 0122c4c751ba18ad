//! The `attempts` of an audit line: the number of requests that were handed to a connection. A request that was not
//! handed to a connection is never sent after its deadline.

use countermand::proto::longrunning::ListOperationsRequest;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    support::{
        details::assert_our_error,
        grpc::{GET, LIST, by_name},
        raw_upstream,
        reply::Reply,
        service::{Service, Setup},
        tls::{Authority, H2, HTTP1},
        upstream::Upstream,
    },
    wire::NAME,
};

const DEVICE: &str = "enterprises/LC01/devices/d1/operations";

const TIMEOUT: [(&str, &str); 1] = [("grpc-timeout", "500m")];

const UNSENT: &str = "the deadline passed before anything was sent to the upstream";

/// The name, code, attempts and upstream status of each audit line for `names`, in the order of `names`.
fn lines(service: &Service, names: &[&str]) -> Value {
    let log = service.audit_log();
    let line = |name: &&str| {
        let line = log.iter().find(|line| line["name"] == *name).expect("a line with the name");
        json!([name, line["code"], line["attempts"], line["upstream_status"]])
    };
    names.iter().map(line).collect()
}

fn paths(upstream: &Upstream) -> Vec<String> {
    upstream.requests().into_iter().map(|request| request.path).collect()
}

fn path(name: &str) -> String {
    format!("/v1/{name}:cancel")
}

#[tokio::test]
async fn a_request_without_a_connection_is_not_an_attempt_and_is_never_sent() {
    for protocols in [[H2], [HTTP1]] {
        let authority = Authority::new();
        let tokens = Upstream::start().await;
        let (upstream, handshakes) = Upstream::start_tls_gated(&authority, &protocols).await;
        upstream.answers([Reply::ok()]);
        let setup = Setup::with_token_endpoint(&tokens, upstream.url()).ca(&authority.pem());
        let service = setup.start().await;
        let wire = service.wire().await;

        let status = wire.cancel(NAME, &TIMEOUT).await.status();
        assert_our_error(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(status.message(), UNSENT);
        assert_eq!(lines(&service, &[NAME]), json!([[NAME, "DEADLINE_EXCEEDED", null, null]]));
        let list = ListOperationsRequest { name: DEVICE.to_owned(), ..Default::default() }.encode_to_vec();
        for (path, message) in [(GET, by_name(NAME)), (LIST, list)] {
            let status = wire.start_raw(path, &TIMEOUT, &message).await.response().await.status();
            assert_our_error(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        }
        let log = service.audit_log();
        assert!(log.len() == 3 && log.iter().all(|line| line["attempts"].is_null()), "{log:?}");
        assert!(upstream.connections() > 0, "the upstream accepted a TCP connection");

        handshakes.open();
        let next = format!("{NAME}1");
        assert_eq!(wire.cancel(&next, &[]).await.code(), Code::Ok);
        assert_eq!(paths(&upstream), [path(&next)]);
    }
}

#[tokio::test]
async fn a_caller_with_a_later_deadline_gets_the_outcome_of_a_request_that_was_unsent_at_an_earlier_deadline()
{
    let authority = Authority::new();
    let tokens = Upstream::start().await;
    let (upstream, handshakes) = Upstream::start_tls_gated(&authority, &[H2]).await;
    upstream.answers([Reply::ok()]);
    let setup = Setup::with_token_endpoint(&tokens, upstream.url()).ca(&authority.pem());
    let service = setup.start().await;
    let wire = service.wire().await;
    let short = wire.start(NAME, &TIMEOUT).await;
    let long = wire.start(NAME, &[]).await;
    assert_eq!(short.response().await.message(), UNSENT);
    assert_eq!(lines(&service, &[NAME]), json!([[NAME, "DEADLINE_EXCEEDED", null, null]]));
    handshakes.open();
    assert_eq!(long.response().await.code(), Code::Ok);
    let line = service.audit_line("CancelOperation", "OK").await;
    assert_eq!(json!([line["shared"], line["attempts"]]), json!([true, 1]));
    assert_eq!(paths(&upstream), [path(NAME)]);
}

#[tokio::test]
async fn a_refused_connection_is_not_an_attempt() {
    let tokens = Upstream::start().await;
    let (_socket, address) = raw_upstream::refusing_address();
    let service = Setup::with_token_endpoint(&tokens, &format!("http://{address}")).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(lines(&service, &[NAME]), json!([[NAME, "UNAVAILABLE", null, null]]));
}

/// hyper hands requests to h2 until one request finds no free stream. h2 keeps that request and sends it when a stream
/// is free, even if the caller has stopped waiting. So the request counts as sent. Later requests queue in hyper, which
/// drops them when their callers stop waiting.
#[tokio::test]
async fn a_request_in_h2_is_an_attempt_and_requests_that_queue_in_hyper_are_not() {
    let authority = Authority::new();
    let upstream = Upstream::start_http2(&authority, 1).await;
    let service = Setup::of(&upstream).ca(&authority.pem()).start().await;
    let wire = service.wire().await;
    let names = [0, 1, 2, 3, 4, 5].map(|id| format!("{NAME}{id}"));
    let [before, in_flight, in_h2, queued, queued_too, after] = names.each_ref().map(String::as_str);
    let (held, gate) = Reply::ok().held();
    upstream.answers([Reply::ok(), held, Reply::ok(), Reply::ok()]);

    assert_eq!(
        wire.cancel(before, &[]).await.code(),
        Code::Ok,
        "the HTTP client has the stream limit after a response"
    );
    let first = wire.start(in_flight, &[]).await;
    upstream.wait_for_requests(2).await;
    let mut late = Vec::new();
    for name in [in_h2, queued, queued_too] {
        late.push(wire.start(name, &TIMEOUT).await);
        wire.wait_until_received().await;
    }
    let mut messages = Vec::new();
    for call in late {
        let status = call.response().await.status();
        assert_our_error(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        messages.push(status.message().to_owned());
    }
    assert_eq!(messages, ["the deadline passed before the upstream answered", UNSENT, UNSENT]);
    assert_eq!(
        lines(&service, &[in_h2, queued, queued_too]),
        json!([
            [in_h2, "DEADLINE_EXCEEDED", 1, null],
            [queued, "DEADLINE_EXCEEDED", null, null],
            [queued_too, "DEADLINE_EXCEEDED", null, null],
        ])
    );

    gate.open();
    assert_eq!(first.response().await.code(), Code::Ok);
    assert_eq!(wire.cancel(after, &[]).await.code(), Code::Ok);
    assert_eq!(paths(&upstream), [before, in_flight, in_h2, after].map(path));
    assert_eq!(upstream.connections(), 2, "one connection for calls and one for tokens");
}

#[tokio::test]
async fn each_request_is_one_attempt_over_http_1_and_http_2() {
    let authority = Authority::new();
    let cleartext = Upstream::start().await;
    let http1 = Upstream::start_tls(&authority, &[HTTP1]).await;
    let http2 = Upstream::start_tls(&authority, &[H2]).await;
    for upstream in [cleartext, http1, http2] {
        let service = Setup::of(&upstream).ca(&authority.pem()).start().await;
        let busy = Reply::plain_error(503, "UNAVAILABLE", "Busy.");
        upstream.answers([Reply::ok(), busy, Reply::ok()]);
        let second = format!("{NAME}1");
        service.cancel(NAME).await.unwrap();
        service.cancel(&second).await.unwrap();
        assert_eq!(lines(&service, &[NAME, &second]), json!([[NAME, "OK", 1, 200], [second, "OK", 2, 200]]));
    }
}
