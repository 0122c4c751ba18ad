//! Errors of the token endpoint. No call is sent upstream without a token, and no call waits beyond its deadline.

use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        account,
        details::{assert_our_error, assert_our_error_with_retry},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// Asserts the status of a call while the first token fetch fails with `reply`, and that the service then recovers.
async fn fails_once_and_recovers(reply: Reply) {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([reply]);
    let mut service = Setup::of(&upstream).start_without_token().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error_with_retry(&status, Code::Unavailable, "CREDENTIAL_UNAVAILABLE", 1);
    assert!(upstream.requests().is_empty());

    upstream.answers([Reply::ok()]);
    service.ready().await;
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn a_call_during_a_503_is_unavailable() {
    fails_once_and_recovers(Reply::json(503, &json!({"error": "internal_failure"}))).await;
}

#[tokio::test]
async fn a_call_during_invalid_grant_is_unavailable() {
    fails_once_and_recovers(Reply::json(400, &json!({"error": "invalid_grant"}))).await;
}

#[tokio::test]
async fn a_200_without_a_token_is_an_error() {
    fails_once_and_recovers(Reply::json(200, &json!({"expires_in": 3600}))).await;
}

#[tokio::test]
async fn an_html_page_is_not_a_token() {
    fails_once_and_recovers(Reply::new(200, "text/html", "<html>log in first</html>")).await;
}

#[tokio::test]
async fn a_token_in_an_error_response_is_not_used() {
    let body = json!({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"});
    fails_once_and_recovers(Reply::json(500, &body)).await;
}

#[tokio::test]
async fn a_truncated_token_response_is_an_error() {
    fails_once_and_recovers(Reply::token("t").with_truncated_body()).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::start().await;
    for status in [301, 302, 307, 308] {
        fails_once_and_recovers(
            Reply::new(status, "text/plain", "").header("location", &elsewhere.token_url()),
        )
        .await;
    }
    assert_eq!((elsewhere.connections(), elsewhere.token_requests()), (0, 0));
}

#[tokio::test]
async fn a_call_waits_for_a_token_until_its_deadline() {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::hanging()]);
    let service = Setup::of(&upstream).start_without_token().await;
    let response = service.wire().await.cancel(NAME, &[("grpc-timeout", "100m")]).await;
    assert_eq!(response.code(), Code::DeadlineExceeded, "{response:?}");
    assert_eq!(response.message(), "the deadline passed before anything was sent to the upstream");
}

#[tokio::test]
async fn a_call_without_a_deadline_waits_for_a_token_until_the_upstream_timeout() {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::hanging()]);
    let service = Setup::of(&upstream).timeout("100ms").start_without_token().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_call_before_the_first_token_is_sent_when_the_token_arrives() {
    let upstream = Upstream::start().await;
    let (late, gate) = Reply::token("late").held();
    upstream.answers_for_tokens([late]);
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).start_without_token().await;
    let wire = service.wire().await;
    let started = wire.start(NAME, &[]).await;
    wire.wait_until_received().await;
    gate.open();
    assert_eq!(started.response().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_call_is_unavailable_when_the_token_endpoint_refuses_connections() {
    let upstream = Upstream::start().await;
    let (_socket, address) = crate::support::raw_upstream::refusing_address();
    let credentials = account::key_file(&format!("http://{address}/token"));
    let service = Setup::new(upstream.url(), &credentials).start_without_token().await;
    let result = with_timeout("a response", service.cancel(NAME)).await;
    assert_our_error_with_retry(&result.unwrap_err(), Code::Unavailable, "CREDENTIAL_UNAVAILABLE", 1);
    assert!(upstream.requests().is_empty());
}
