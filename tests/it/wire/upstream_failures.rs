//! Upstreams that redirect, send invalid HTTP, send too much, stop in the middle of a response or refuse connections.

use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::{
    support::{
        details::assert_our_error,
        grpc::PendingCall,
        raw_upstream::{self, RawResponse, RawUpstream},
        reply::Reply,
        service::Setup,
        tls::Authority,
        upstream::Upstream,
    },
    wire::NAME,
};

const MIB: usize = 1024 * 1024;

/// The result of a cancel when the upstream sends these responses, one per connection.
async fn cancel_with(responses: impl IntoIterator<Item = RawResponse>) -> Result<(), Status> {
    let tokens = Upstream::start().await;
    let upstream = RawUpstream::start(responses).await;
    let service = Setup::with_token_endpoint(&tokens, &upstream.url).start().await;
    service.cancel(NAME).await
}

fn four_times(response: RawResponse) -> impl Iterator<Item = RawResponse> {
    std::iter::repeat_n(response, 4)
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    let elsewhere = Upstream::start().await;
    for status in [301, 302, 303, 307, 308] {
        let upstream = Upstream::start().await;
        let location = format!("{}/v1/{NAME}:cancel", elsewhere.url());
        upstream.answers([Reply::new(status, "text/html", "<html>").header("location", &location)]);
        let service = Setup::of(&upstream).start().await;
        let status = service.cancel(NAME).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
        assert!(!status.message().contains(&location), "{status:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_2xx_with_an_incomplete_body_is_a_cancel_and_a_2xx_over_the_size_limit_is_an_error() {
    for reply in [Reply::ok().with_hanging_body(), Reply::ok().with_truncated_body()] {
        let upstream = Upstream::start().await;
        upstream.answers([reply]);
        let service = Setup::of(&upstream).start().await;
        service.cancel(NAME).await.unwrap();
    }
    cancel_with([RawResponse::SendAndReset(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec())])
        .await
        .unwrap();

    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{", 100 * MIB);
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    for response in [RawResponse::SendAndHang(announced.into()), RawResponse::SendEndlessly { head, chunk }] {
        let status = cancel_with([response]).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
}

#[tokio::test]
async fn a_truncated_error_is_unavailable() {
    for bytes in [
        &b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n{\"error\":"[..],
        b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"error\":\r\n",
    ] {
        for response in [RawResponse::SendAndClose(bytes.to_vec()), RawResponse::SendAndReset(bytes.to_vec())]
        {
            let status = cancel_with([response]).await.unwrap_err();
            assert_our_error(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
        }
    }
}

#[tokio::test]
async fn an_error_over_4_mib_is_not_read_to_its_end() {
    let announced = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n", 4 * MIB + 1);
    let status = cancel_with([RawResponse::SendAndHang(announced.into())]).await.unwrap_err();
    assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");

    let tokens = Upstream::start().await;
    let head = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let upstream = RawUpstream::start([RawResponse::SendEndlessly { head, chunk }]).await;
    let service = Setup::with_token_endpoint(&tokens, &upstream.url).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    // Socket buffers hold the bytes beyond the limit.
    let written = upstream.written().await;
    assert!((4 * MIB..32 * MIB).contains(&written), "{written}");
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
async fn a_response_that_is_not_http_is_malformed_and_is_not_retried() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        let status = cancel_with([RawResponse::SendAndHang(garbage.to_vec())]).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
}

#[tokio::test]
async fn a_request_without_a_response_is_tried_four_times() {
    for response in [
        RawResponse::Close,
        RawResponse::SendAndClose(Vec::new()),
        RawResponse::SendAndReset(Vec::new()),
        RawResponse::SendAndClose(b"HTTP/1.1 2".to_vec()),
        RawResponse::SendAndReset(b"HTTP/1.1 200 OK\r\n".to_vec()),
    ] {
        let status = cancel_with(four_times(response)).await.unwrap_err();
        assert_our_error(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    }
    let ok = RawResponse::SendAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
    cancel_with([RawResponse::Close, RawResponse::SendAndReset(Vec::new()), ok]).await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let tokens = Upstream::start().await;
    let (_socket, address) = raw_upstream::refusing_address();
    let service = Setup::with_token_endpoint(&tokens, &format!("http://{address}")).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert!(!status.message().contains(&address.port().to_string()), "{status:?}");
}

/// The limit on concurrent upstream requests.
const SLOTS: usize = 256;

#[tokio::test]
async fn a_2xx_whose_body_hangs_holds_its_slot_for_a_bounded_time() {
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let upstream = Upstream::start_http2(&authority, 1000).await;
    let (reply, gate) = Reply::ok().with_hanging_body().held();
    upstream.always_answers(reply);
    let setup = Setup::with_token_endpoint(&tokens, upstream.url()).ca(&authority.pem()).timeout("1h");
    let service = setup.max_concurrent_calls(1000).start().await;
    // With default windows, h2 closes a client connection that receives about 130 small responses at once.
    let wires = [service.wire().await, service.wire().await, service.wire().await, service.wire().await];
    let mut calls = Vec::new();
    for id in 0..SLOTS {
        calls.push(wires[id % wires.len()].start(&format!("{NAME}{id}"), &[]).await);
    }
    upstream.wait_for_requests(SLOTS).await;
    calls.push(wires[0].start(NAME, &[]).await);
    wires[0].wait_until_received().await;
    assert_eq!(upstream.requests().len(), SLOTS, "every slot is held");
    gate.open();
    for response in join_all(calls.into_iter().map(PendingCall::response)).await {
        assert_eq!(response.code(), Code::Ok);
    }
    assert_eq!(upstream.requests().len(), SLOTS + 1);
}
