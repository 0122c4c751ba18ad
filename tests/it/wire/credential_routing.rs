//! Several credentials: each call uses the token of the credential for its enterprise.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use countermand::{
    amapi::{Amapi, Api, error::Error},
    background::Background,
    caller::Caller,
    credentials::{Credential, CredentialSet, Credentials, FetchError, Pattern, Token, TokenSource},
    flight::Flight,
    http_client::{Authorities, ProxySettings},
    name::OperationName,
    policy::{Policy, action::Cancel},
    proto::longrunning::{GetOperationRequest, ListOperationsRequest, WaitOperationRequest},
    quota::Quota,
    telemetry::metrics::Metrics,
};
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;

use crate::support::{
    details::{assert_our_error, assert_our_error_with_retry},
    reply::Reply,
    service::Setup,
    upstream::Upstream,
    with_timeout,
};

fn operation(enterprise: &str) -> String {
    format!("enterprises/{enterprise}/devices/d1/operations/17")
}

/// The token of each call to the API so far.
fn tokens_used(api: &Upstream) -> Vec<String> {
    let requests = api.requests();
    requests.iter().map(|call| call.headers["authorization"].to_str().unwrap().to_owned()).collect()
}

/// A token endpoint that always returns the token `token`.
async fn token_endpoint(token: &str) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.always_answers_for_tokens(Reply::token(token));
    upstream
}

#[tokio::test]
async fn each_enterprise_uses_the_token_of_its_credential() {
    let api = Upstream::start().await;
    let (emea, one, others) =
        (token_endpoint("emea").await, token_endpoint("one").await, token_endpoint("others").await);
    let list = [
        ("others", "", &others),
        ("emea", r#"enterprises = ["LC0*", "XX"]"#, &emea),
        ("one", r#"enterprises = ["LC01", "LC02*"]"#, &one),
    ];
    let service = Setup::of(&api).credentials(&list).start().await;
    for (enterprise, token) in [
        ("LC01", "one"),
        ("LC01a", "emea"),
        ("LC02", "one"),
        ("LC02a", "one"),
        ("LC03", "emea"),
        ("XX", "emea"),
        ("XXX", "others"),
    ] {
        api.answers([Reply::ok()]);
        service.cancel(&operation(enterprise)).await.unwrap();
        assert_eq!(tokens_used(&api).last().unwrap(), &format!("Bearer {token}"), "{enterprise}");
    }
}

#[tokio::test]
async fn an_enterprise_without_a_credential_is_refused_without_an_upstream_call() {
    let api = Upstream::start().await;
    let emea = token_endpoint("emea").await;
    let service = Setup::of(&api).credentials(&[("emea", r#"enterprises = ["LC01*"]"#, &emea)]).start().await;
    let (name, device) = (operation("LC1"), "enterprises/LC1/devices/d1".to_owned());
    let mut client = service.client();
    let get = GetOperationRequest { name: name.clone() };
    let list = ListOperationsRequest { name: device, ..Default::default() };
    let wait = WaitOperationRequest { name: name.clone(), timeout: None };
    let statuses = [
        service.cancel(&name).await.unwrap_err(),
        with_timeout("a response", client.get_operation(get)).await.unwrap_err(),
        with_timeout("a response", client.list_operations(list)).await.unwrap_err(),
        with_timeout("a response", client.wait_operation(wait)).await.unwrap_err(),
    ];
    for status in statuses {
        assert_our_error(&status, Code::FailedPrecondition, "NO_CREDENTIAL_FOR_ENTERPRISE");
    }
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn a_revoked_credential_affects_only_its_enterprises() {
    let api = Upstream::start().await;
    let (revoked, good) = (Upstream::start().await, token_endpoint("good").await);
    revoked.always_answers_for_tokens(Reply::json(400, &json!({"error": "invalid_grant"})));
    let list = [("revoked", r#"enterprises = ["LC01"]"#, &revoked), ("good", "", &good)];
    let service = Setup::of(&api).credentials(&list).start().await;
    let status = service.cancel(&operation("LC01")).await.unwrap_err();
    assert_our_error_with_retry(&status, Code::Unavailable, "CREDENTIAL_UNAVAILABLE", 5);
    assert!(api.requests().is_empty());
    api.answers([Reply::ok()]);
    service.cancel(&operation("LC02")).await.unwrap();
}

#[tokio::test]
async fn only_the_rejected_token_is_renewed() {
    let api = Upstream::start().await;
    let (emea, others) = (Upstream::start().await, Upstream::start().await);
    let list = [("emea", r#"enterprises = ["LC01"]"#, &emea), ("others", "", &others)];
    let service = Setup::of(&api).credentials(&list).start().await;
    api.answers([Reply::plain_error(401, "UNAUTHENTICATED", "no"), Reply::ok(), Reply::ok()]);
    service.cancel(&operation("LC01")).await.unwrap();
    service.cancel(&operation("LC02")).await.unwrap();
    assert_eq!(tokens_used(&api), ["Bearer t1", "Bearer t2", "Bearer t1"]);
    assert_eq!((emea.token_requests(), others.token_requests()), (2, 1));
}

#[tokio::test]
async fn an_impersonated_token_is_requested_from_the_configured_iam_url() {
    let (api, iam, key) =
        (Upstream::start().await, Upstream::start().await, token_endpoint("of-the-key").await);
    let end = humantime::format_rfc3339(SystemTime::now() + Duration::from_secs(3600));
    iam.answers([Reply::json(200, &json!({"accessToken": "of-the-proxy", "expireTime": end.to_string()}))]);
    api.answers([Reply::ok()]);
    let list = [("emea", r#"impersonate = "proxy@p.iam.gserviceaccount.com""#, &key)];
    let service = Setup::of(&api).iam(iam.url()).credentials(&list).start().await;
    service.cancel(&operation("LC01")).await.unwrap();
    let request = &iam.requests()[0];
    let account = request.path.strip_prefix("/v1/projects/-/serviceAccounts/").unwrap();
    assert!(account.starts_with("proxy") && account.ends_with(":generateAccessToken"), "{account}");
    assert_eq!(request.headers["authorization"], "Bearer of-the-key");
    assert_eq!(tokens_used(&api), ["Bearer of-the-proxy"]);
}

/// A token source with a constant token.
struct Fixed(&'static str);

impl TokenSource for Fixed {
    async fn fetch(&self) -> Result<Token, FetchError> {
        Token::new(self.0.to_owned().into(), Duration::from_secs(3600))
    }

    fn reload(&self, _: &[u8]) -> Result<Self, String> {
        Ok(Self(self.0))
    }
}

#[tokio::test]
async fn a_flight_has_the_name_of_its_credential_for_every_outcome() {
    let api = Upstream::start().await;
    api.answers([Reply::ok(), Reply::plain_error(404, "NOT_FOUND", "gone")]);
    let emea = Credential::with_source("emea", Fixed("t"), None, &Background::unsupervised());
    let credentials = Credentials::new(CredentialSet::new([(emea, vec![Pattern::parse("LC01*").unwrap()])]));
    let minute = Duration::from_secs(60);
    let (url, credentials) = (api.url().parse().unwrap(), Arc::new(credentials));
    let (metrics, _) = Metrics::new();
    let amapi = Amapi::new(
        url,
        &Authorities::public(),
        &ProxySettings::default(),
        credentials,
        minute,
        &metrics.upstream,
        Arc::new(Quota::new(Vec::new(), metrics.quota)),
    )
    .unwrap();
    let cancel = async |enterprise| {
        let name = OperationName::parse(&operation(enterprise)).unwrap();
        let permit = Policy::without_rules().decide::<Cancel>(&Caller::anonymous(), name).unwrap();
        let flight = Flight::new(Instant::now() + minute);
        (amapi.cancel(&permit, &flight).await, flight)
    };
    let (done, flight) = cancel("LC01").await;
    assert!(done.is_ok());
    assert_eq!(flight.credential(), Some("emea"));
    let (refused, flight) = cancel("LC01b").await;
    assert!(matches!(refused, Err(Error::Response(_))), "{refused:?}");
    assert_eq!(flight.credential(), Some("emea"));
    let (unserved, flight) = cancel("LC02").await;
    assert!(matches!(unserved, Err(Error::NoCredential)), "{unserved:?}");
    assert_eq!((flight.credential(), flight.attempts()), (None, 0));
}
