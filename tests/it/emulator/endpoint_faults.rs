//! Each endpoint that gives tokens, in each kind of trouble.

use std::time::{Duration, Instant, SystemTime};

use countermand_emulator::{Condition, Emulator, Endpoint, Kind};
use serde_json::{Value, json};

use crate::emulator::client::{Answer, Client, Protocol, answer};
use crate::emulator::sign_in::{CLOUD_PLATFORM, SCOPE, file, http, start, token, try_first_answer};

const ALL: [Endpoint; 5] =
    [Endpoint::Token, Endpoint::Sts, Endpoint::SubjectToken, Endpoint::Metadata, Endpoint::Iam];

/// Asks each endpoint for what it gives.
struct Asker {
    emulator: Emulator,
    bearer: String,
}

impl Asker {
    async fn new() -> Self {
        let emulator = start().await;
        let bearer = token(&file(&emulator, Kind::ServiceAccount), CLOUD_PLATFORM).await;
        Self { emulator, bearer }
    }

    fn set(&self, endpoint: Endpoint, condition: Condition) {
        self.emulator.control().set_endpoint(endpoint, condition);
    }

    /// How an endpoint answers a sound request, while all others are healthy.
    async fn ask(&self, endpoint: Endpoint) -> reqwest::Result<Answer> {
        let url = self.emulator.url();
        let request = match endpoint {
            Endpoint::Token => {
                return try_first_answer(&file(&self.emulator, Kind::AuthorizedUser), SCOPE).await;
            }
            Endpoint::Sts => {
                return try_first_answer(&file(&self.emulator, Kind::ExternalAccountFile), SCOPE).await;
            }
            Endpoint::SubjectToken => {
                let source = file(&self.emulator, Kind::ExternalAccountUrl)["credential_source"].clone();
                let (name, value) = source["headers"].as_object().unwrap().iter().next().unwrap();
                http().get(source["url"].as_str().unwrap()).header(name, value.as_str().unwrap())
            }
            Endpoint::Metadata => {
                let path = "computeMetadata/v1/instance/service-accounts/default/token";
                http().get(format!("{url}/{path}?scopes={SCOPE}")).header("metadata-flavor", "Google")
            }
            Endpoint::Iam => {
                let file = file(&self.emulator, Kind::ImpersonatedServiceAccount);
                let request = http().post(file["service_account_impersonation_url"].as_str().unwrap());
                let request = request.bearer_auth(&self.bearer).header("content-type", "application/json");
                request.body(json!({ "scope": [SCOPE] }).to_string())
            }
        };
        answer(request).await
    }

    /// The JSON of a token given in some condition.
    async fn given(&self, endpoint: Endpoint, condition: Condition) -> Value {
        self.set(endpoint, condition);
        let given = self.ask(endpoint).await.unwrap();
        assert_eq!(given.status, 200, "{endpoint:?} {condition:?}: {given:?}");
        serde_json::from_str(&given.text).unwrap()
    }
}

/// The names of the token and of its lifetime.
fn members(endpoint: Endpoint) -> (&'static str, Option<&'static str>) {
    match endpoint {
        Endpoint::SubjectToken => ("subject_token", None),
        Endpoint::Iam => ("accessToken", Some("expireTime")),
        Endpoint::Token | Endpoint::Sts | Endpoint::Metadata => ("access_token", Some("expires_in")),
    }
}

#[tokio::test]
async fn trouble_has_the_status_of_its_kind_and_passes() {
    let asker = Asker::new().await;
    let refusing = |endpoint| match endpoint {
        Endpoint::Token | Endpoint::Sts => 400,
        Endpoint::SubjectToken | Endpoint::Iam => 403,
        Endpoint::Metadata => 404,
    };
    for endpoint in ALL {
        for (condition, status) in [
            (Condition::Refusing, refusing(endpoint)),
            (Condition::Unavailable, 503),
            (Condition::Failing, 500),
            (Condition::Html, 200),
            (Condition::Healthy, 200),
        ] {
            asker.set(endpoint, condition);
            let answered = asker.ask(endpoint).await.unwrap();
            assert_eq!(answered.status, status, "{endpoint:?} {condition:?}: {answered:?}");
            if condition == Condition::Html {
                assert_eq!(answered.content_type, "text/html; charset=UTF-8", "{endpoint:?}");
            }
            if condition == Condition::Failing {
                assert_eq!(answered.error(), (500, "INTERNAL".to_owned()), "{endpoint:?}");
            }
        }
    }
}

#[tokio::test]
async fn one_endpoint_in_trouble_leaves_the_others_alone() {
    let asker = Asker::new().await;
    for troubled in ALL {
        asker.set(troubled, Condition::Unavailable);
        for endpoint in ALL {
            let status = asker.ask(endpoint).await.unwrap().status;
            assert_eq!(status, if endpoint == troubled { 503 } else { 200 }, "{troubled:?} {endpoint:?}");
        }
        asker.set(troubled, Condition::Healthy);
    }
}

#[tokio::test]
async fn a_token_or_its_lifetime_is_left_out() {
    let asker = Asker::new().await;
    for endpoint in ALL {
        let (token, lifetime) = members(endpoint);
        let whole = asker.given(endpoint, Condition::Healthy).await;
        assert!(whole[token].is_string(), "{endpoint:?}: {whole}");
        let without = asker.given(endpoint, Condition::WithoutToken).await;
        assert!(without.get(token).is_none(), "{endpoint:?}: {without}");
        let without = asker.given(endpoint, Condition::LifetimeAbsent).await;
        assert!(without[token].is_string(), "{endpoint:?}: {without}");
        let Some(lifetime) = lifetime else { continue };
        assert!(whole.get(lifetime).is_some() && without.get(lifetime).is_none(), "{endpoint:?}: {without}");
    }
}

#[tokio::test]
async fn a_lifetime_makes_no_sense() {
    let asker = Asker::new().await;
    for endpoint in [Endpoint::Token, Endpoint::Sts, Endpoint::Metadata] {
        assert_eq!(asker.given(endpoint, Condition::LifetimeNegative).await["expires_in"], -1);
        assert_eq!(asker.given(endpoint, Condition::LifetimeAbsurd).await["expires_in"], u64::MAX);
    }
    let time = |value: Value| humantime::parse_rfc3339(value["expireTime"].as_str().unwrap()).unwrap();
    assert!(time(asker.given(Endpoint::Iam, Condition::LifetimeNegative).await) < SystemTime::now());
    let century = Duration::from_secs(100 * 365 * 86_400);
    assert!(time(asker.given(Endpoint::Iam, Condition::LifetimeAbsurd).await) > SystemTime::now() + century);
}

#[tokio::test]
async fn an_answer_breaks_off_or_never_comes() {
    let asker = Asker::new().await;
    for endpoint in ALL {
        asker.set(endpoint, Condition::Reset);
        let reset = asker.ask(endpoint).await.unwrap_err();
        assert!(reset.is_request() && !reset.is_connect(), "{endpoint:?}: {reset:?}");
        asker.set(endpoint, Condition::Truncated);
        let broken = asker.ask(endpoint).await.unwrap_err();
        assert!(broken.is_decode() || broken.is_body(), "{endpoint:?}: {broken:?}");
        asker.set(endpoint, Condition::Hanging);
        let waited = tokio::time::timeout(Duration::from_millis(50), asker.ask(endpoint)).await;
        assert!(waited.is_err(), "{endpoint:?}: {waited:?}");
        let slow = Duration::from_millis(20);
        asker.set(endpoint, Condition::Slow(slow));
        let start = Instant::now();
        assert_eq!(asker.ask(endpoint).await.unwrap().status, 200, "{endpoint:?}");
        assert!(start.elapsed() >= slow, "{endpoint:?}");
        asker.set(endpoint, Condition::Healthy);
    }
}

#[tokio::test]
async fn a_truncated_answer_ends_its_stream_and_spares_the_connection() {
    let emulator = start().await;
    let client = Client::new(&emulator, Protocol::Http2).await;
    emulator.control().set_endpoint(Endpoint::Metadata, Condition::Truncated);
    let broken = answer(client.http.get(emulator.url())).await.unwrap_err();
    assert!(broken.is_decode() || broken.is_body(), "{broken:?}");
    emulator.control().set_endpoint(Endpoint::Metadata, Condition::Healthy);
    assert_eq!(answer(client.http.get(emulator.url())).await.unwrap().text, "computeMetadata/\n");
}

#[tokio::test]
async fn requests_are_counted_by_endpoint_whatever_they_are_answered() {
    let asker = Asker::new().await;
    let before = asker.emulator.control().queries();
    for endpoint in ALL {
        asker.set(endpoint, Condition::Refusing);
        assert_ne!(asker.ask(endpoint).await.unwrap().status, 200);
    }
    let after = asker.emulator.control().queries();
    let counts = |queries: countermand_emulator::Queries| {
        [queries.token, queries.sts, queries.subject_token, queries.metadata_token, queries.iam]
    };
    assert_eq!(counts(after), counts(before).map(|count| count + 1));
}
