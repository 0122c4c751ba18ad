//! Google's 401, which is about our token and never about the caller.

use tonic::Code;

use crate::{
    support::{details::assert_ours, reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

fn rejected() -> Reply {
    let details = serde_json::json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_EXPIRED", "domain": "googleapis.com"}]);
    Reply::error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", details)
}

fn tokens_of(upstream: &Upstream) -> Vec<String> {
    let seen = upstream.seen();
    seen.iter().map(|call| call.headers["authorization"].to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_401_costs_one_fresh_token_and_the_caller_sees_nothing_of_it() {
    let upstream = Upstream::start().await;
    upstream.answers([rejected(), Reply::ok(), Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap();
    service.cancel(NAME).await.unwrap();
    assert_eq!(tokens_of(&upstream), ["Bearer t1", "Bearer t2", "Bearer t2"]);
    assert_eq!(upstream.token_requests(), 2);
}

#[tokio::test]
async fn a_second_401_is_our_fault_and_repeats_nothing_of_googles() {
    let upstream = Upstream::start().await;
    upstream.always_answers(rejected());
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_ours(&status, Code::Internal, "UPSTREAM_CREDENTIAL_REJECTED");
    assert_eq!(tokens_of(&upstream), ["Bearer t1", "Bearer t2"]);
    assert_eq!(upstream.token_requests(), 2);
}

#[tokio::test]
async fn many_calls_that_meet_a_401_share_one_fresh_token() {
    let upstream = Upstream::start().await;
    let (held, gate) = rejected().held();
    upstream.answers(std::iter::repeat_n(held, 20));
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).start().await;
    let names: Vec<String> = (0..20).map(|n| format!("{NAME}{n}")).collect();
    let calls = futures_util::future::join_all(names.iter().map(|name| service.cancel(name)));
    let rejection = async {
        upstream.has_seen(20).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(calls, rejection);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(upstream.seen().len(), 40);
    assert_eq!(upstream.token_requests(), 2);
}

#[tokio::test]
async fn a_fresh_token_that_cannot_be_had_is_unavailable_and_not_internal() {
    let upstream = Upstream::start().await;
    upstream.answers([rejected()]);
    upstream.answers_for_tokens([Reply::token("good"), Reply::new(503, "text/plain", "")]);
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_login_names_the_project_whose_quota_its_calls_use() {
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
    let [call] = &upstream.seen()[..] else { panic!("one call") };
    assert_eq!(call.headers["authorization"], "Bearer t1");
    assert_eq!(call.headers["x-goog-user-project"], "billed");
}
