//! Google's 401, which concerns our token and never the caller, and the quota project of a credential.

use tonic::Code;

use crate::{
    support::{details::assert_our_error, reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

fn unauthenticated() -> Reply {
    let details = serde_json::json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_EXPIRED", "domain": "googleapis.com"}]);
    Reply::error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", details)
}

fn tokens_used(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests();
    requests.iter().map(|call| call.headers["authorization"].to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_401_is_retried_with_a_new_token() {
    let upstream = Upstream::start().await;
    upstream.answers([unauthenticated(), Reply::ok(), Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap();
    service.cancel(NAME).await.unwrap();
    assert_eq!(tokens_used(&upstream), ["Bearer t1", "Bearer t2", "Bearer t2"]);
    assert_eq!(upstream.token_requests(), 2);
}

#[tokio::test]
async fn a_second_401_is_an_internal_error_without_googles_details() {
    let upstream = Upstream::start().await;
    upstream.always_answers(unauthenticated());
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error(&status, Code::Internal, "UPSTREAM_CREDENTIAL_REJECTED");
    assert_eq!(tokens_used(&upstream), ["Bearer t1", "Bearer t2"]);
    assert_eq!(upstream.token_requests(), 2);
}

#[tokio::test]
async fn calls_with_a_401_share_one_token_request() {
    let upstream = Upstream::start().await;
    let (held, gate) = unauthenticated().held();
    upstream.answers(std::iter::repeat_n(held, 20));
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).start().await;
    let names: Vec<String> = (0..20).map(|n| format!("{NAME}{n}")).collect();
    let calls = futures_util::future::join_all(names.iter().map(|name| service.cancel(name)));
    let release = async {
        upstream.wait_for_requests(20).await;
        gate.open();
    };
    let (results, ()) = tokio::join!(calls, release);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(upstream.requests().len(), 40);
    assert_eq!(upstream.token_requests(), 2);
}

#[tokio::test]
async fn a_call_is_unavailable_when_the_new_token_cannot_be_fetched() {
    let upstream = Upstream::start().await;
    upstream.answers([unauthenticated()]);
    upstream.answers_for_tokens([Reply::token("good"), Reply::new(503, "text/plain", "")]);
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn the_quota_project_of_a_credential_is_sent() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let login = serde_json::json!({
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "secret",
        "refresh_token": "refresh",
        "quota_project_id": "billed",
        "token_uri": upstream.token_url(),
    });
    let service = Setup::new(upstream.url(), &login.to_string()).start().await;
    service.cancel(NAME).await.unwrap();
    let [call] = &upstream.requests()[..] else { panic!("one call") };
    assert_eq!(call.headers["authorization"], "Bearer t1");
    assert_eq!(call.headers["x-goog-user-project"], "billed");
}
