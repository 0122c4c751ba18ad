//! A token endpoint in trouble: no call goes upstream without a token, and none waits without end.

use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        account,
        details::{assert_ours, assert_ours_with_retry},
        reply::Reply,
        service::Setup,
        soon,
        upstream::Upstream,
    },
    wire::NAME,
};

/// What a caller gets who comes while the first fetch fails, and that the service finds its way out.
async fn fails_once(reply: Reply) {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([reply]);
    let mut service = Setup::of(&upstream).start_without_token().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_ours_with_retry(&status, Code::Unavailable, "CREDENTIAL_UNAVAILABLE", 1);
    assert!(upstream.seen().is_empty());

    upstream.answers([Reply::ok()]);
    service.ready().await;
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn an_error_is_unavailable_and_passes() {
    fails_once(Reply::json(503, &json!({"error": "internal_failure"}))).await;
}

#[tokio::test]
async fn a_refusal_is_unavailable_and_passes() {
    fails_once(Reply::json(400, &json!({"error": "invalid_grant"}))).await;
}

#[tokio::test]
async fn a_200_without_a_token_is_no_token() {
    fails_once(Reply::json(200, &json!({"expires_in": 3600}))).await;
}

#[tokio::test]
async fn a_page_of_html_is_no_token() {
    fails_once(Reply::new(200, "text/html", "<html>log in first</html>")).await;
}

#[tokio::test]
async fn a_token_under_an_error_status_is_no_token() {
    let body = json!({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"});
    fails_once(Reply::json(500, &body)).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_token() {
    fails_once(Reply::token("t").breaking_off()).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::start().await;
    for status in [301, 302, 307, 308] {
        fails_once(Reply::new(status, "text/plain", "").header("location", &elsewhere.token_url())).await;
    }
    assert_eq!((elsewhere.connections(), elsewhere.token_requests()), (0, 0));
}

#[tokio::test]
async fn while_it_hangs_a_caller_waits_as_long_as_its_deadline() {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::hanging()]);
    let service = Setup::of(&upstream).start_without_token().await;
    let answer = service.wire().await.cancel(NAME, &[("grpc-timeout", "100m")]).await;
    assert_eq!(answer.code(), Code::DeadlineExceeded, "{answer:?}");
    assert_eq!(answer.message(), "the deadline passed before anything was sent to the upstream");
}

#[tokio::test]
async fn while_it_hangs_a_caller_without_a_deadline_waits_as_long_as_the_upstreams_timeout() {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::hanging()]);
    let service = Setup::of(&upstream).timeout("100ms").start_without_token().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_ours(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_caller_who_comes_before_the_first_token_gets_it_when_it_is_there() {
    let upstream = Upstream::start().await;
    let (late, gate) = Reply::token("late").held();
    upstream.answers_for_tokens([late]);
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).start_without_token().await;
    let wire = service.wire().await;
    let started = wire.start(NAME, &[]).await;
    // It is being waited for.
    wire.taken_up().await;
    gate.open();
    assert_eq!(started.answer().await.code(), Code::Ok);
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_unavailable() {
    let upstream = Upstream::start().await;
    let (_socket, address) = crate::support::raw::refusing();
    let credentials = account::key_file(&format!("http://{address}/token"));
    let service = Setup::new(upstream.url(), &credentials).start_without_token().await;
    let answered = soon("an answer", service.cancel(NAME)).await;
    assert_ours_with_retry(&answered.unwrap_err(), Code::Unavailable, "CREDENTIAL_UNAVAILABLE", 1);
    assert!(upstream.seen().is_empty());
}
