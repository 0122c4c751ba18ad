//! Upstreams that do what no API does.

use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::{
    support::{
        details::assert_ours,
        grpc::Started,
        raw::{self, Act, RawUpstream},
        reply::Reply,
        service::Setup,
        tls::Authority,
        upstream::Upstream,
    },
    wire::NAME,
};

const MIB: usize = 1024 * 1024;

async fn answer(acts: impl IntoIterator<Item = Act>) -> Result<(), Status> {
    let tokens = Upstream::start().await;
    let upstream = RawUpstream::start(acts).await;
    let service = Setup::with_tokens_of(&tokens, &upstream.url).start().await;
    service.cancel(NAME).await
}

fn four_times(act: Act) -> impl Iterator<Item = Act> {
    std::iter::repeat_n(act, 4)
}

#[tokio::test]
async fn a_redirect_is_an_error_and_goes_nowhere() {
    let elsewhere = Upstream::start().await;
    for status in [301, 302, 303, 307, 308] {
        let upstream = Upstream::start().await;
        let location = format!("{}/v1/{NAME}:cancel", elsewhere.url());
        upstream.answers([Reply::new(status, "text/html", "<html>").header("location", &location)]);
        let service = Setup::of(&upstream).start().await;
        let refused = service.cancel(NAME).await.unwrap_err();
        assert_ours(&refused, Code::Internal, "UPSTREAM_MALFORMED");
        assert!(!refused.message().contains(&location), "{refused:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_2xx_whose_body_breaks_off_or_hangs_is_a_cancel_and_one_over_the_limit_is_none() {
    for reply in [Reply::ok().hanging_in_the_body(), Reply::ok().breaking_off()] {
        let upstream = Upstream::start().await;
        upstream.answers([reply]);
        let service = Setup::of(&upstream).start().await;
        service.cancel(NAME).await.unwrap();
    }
    answer([Act::AnswerAndReset(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec())]).await.unwrap();

    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{", 100 * MIB);
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    for act in [Act::AnswerAndHold(announced.into()), Act::Endless(head, chunk)] {
        let status = answer([act]).await.unwrap_err();
        assert_ours(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
}

#[tokio::test]
async fn an_error_that_breaks_off_is_unavailable() {
    for bytes in [
        &b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n{\"error\":"[..],
        b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"error\":\r\n",
    ] {
        for act in [Act::Answer(bytes.to_vec()), Act::AnswerAndReset(bytes.to_vec())] {
            let status = answer([act]).await.unwrap_err();
            assert_ours(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
        }
    }
}

#[tokio::test]
async fn an_error_over_4_mib_is_read_no_further() {
    let announced = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n", 4 * MIB + 1);
    let status = answer([Act::AnswerAndHold(announced.into())]).await.unwrap_err();
    assert_ours(&status, Code::Internal, "UPSTREAM_MALFORMED");

    let tokens = Upstream::start().await;
    let head = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let upstream = RawUpstream::start([Act::Endless(head, chunk)]).await;
    let service = Setup::with_tokens_of(&tokens, &upstream.url).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_ours(&status, Code::Internal, "UPSTREAM_MALFORMED");
    // What is beyond the limit is what the sockets' buffers took.
    let taken = upstream.taken().await;
    assert!((4 * MIB..32 * MIB).contains(&taken), "{taken}");
}

#[tokio::test]
async fn an_error_of_4_mib_is_read_whole() {
    let upstream = Upstream::start().await;
    let mut body = br#"{"error":{"code":404,"status":"NOT_FOUND","message":"Far."}}"#.to_vec();
    body.resize(4 * MIB, b' ');
    upstream.answers([Reply::new(404, "application/json", body)]);
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Far."));
}

#[tokio::test]
async fn what_is_no_http_is_malformed_and_not_asked_again() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        let status = answer([Act::AnswerAndHold(garbage.to_vec())]).await.unwrap_err();
        assert_ours(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
}

#[tokio::test]
async fn no_answer_is_asked_for_four_times() {
    for act in [
        Act::CloseAtOnce,
        Act::Answer(Vec::new()),
        Act::AnswerAndReset(Vec::new()),
        Act::Answer(b"HTTP/1.1 2".to_vec()),
        Act::AnswerAndReset(b"HTTP/1.1 200 OK\r\n".to_vec()),
    ] {
        let status = answer(four_times(act)).await.unwrap_err();
        assert_ours(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    }
    let ok = Act::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
    answer([Act::CloseAtOnce, Act::AnswerAndReset(Vec::new()), ok]).await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let tokens = Upstream::start().await;
    let (_socket, address) = raw::refusing();
    let service = Setup::with_tokens_of(&tokens, &format!("http://{address}")).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_ours(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert!(!status.message().contains(&address.port().to_string()), "{status:?}");
}

/// The requests that the service sends at once.
const SLOTS: usize = 256;

#[tokio::test]
async fn a_2xx_whose_body_hangs_holds_its_slot_for_a_bounded_time() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let upstream = Upstream::start_http2(&authority, 1000).await;
    let (reply, gate) = Reply::ok().hanging_in_the_body().held();
    upstream.always_answers(reply);
    let setup = Setup::with_tokens_of(&tokens, upstream.url()).ca(&authority.pem()).timeout("1h");
    let service = setup.places(1000).start().await;
    // With its default windows, h2 closes a client's connection when some 130 small responses come at once.
    let wires = [service.wire().await, service.wire().await, service.wire().await, service.wire().await];
    let mut calls = Vec::new();
    for id in 0..SLOTS {
        calls.push(wires[id % wires.len()].start(&format!("{NAME}{id}"), &[]).await);
    }
    upstream.has_seen(SLOTS).await;
    calls.push(wires[0].start(NAME, &[]).await);
    wires[0].taken_up().await;
    assert_eq!(upstream.seen().len(), SLOTS, "every slot is held");
    gate.open();
    for answer in join_all(calls.into_iter().map(Started::answer)).await {
        assert_eq!(answer.code(), Code::Ok);
    }
    assert_eq!(upstream.seen().len(), SLOTS + 1);
}
