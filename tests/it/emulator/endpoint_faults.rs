//! Each endpoint that issues tokens, with each fault.

use std::time::{Duration, Instant, SystemTime};

use countermand_emulator::{Condition, Emulator, Endpoint, Kind};
use serde_json::{Value, json};

use crate::emulator::client::{Client, Protocol, TestResponse, send};
use crate::emulator::sign_in::{CLOUD_PLATFORM, SCOPE, file, http, start, token, try_first_response};

const ALL: [Endpoint; 5] =
    [Endpoint::Token, Endpoint::Sts, Endpoint::SubjectToken, Endpoint::Metadata, Endpoint::Iam];

/// A client of every endpoint that issues tokens.
struct EndpointClient {
    emulator: Emulator,
    bearer: String,
}

impl EndpointClient {
    async fn new() -> Self {
        let emulator = start().await;
        let bearer = token(&file(&emulator, Kind::ServiceAccount), CLOUD_PLATFORM).await;
        Self { emulator, bearer }
    }

    fn set(&self, endpoint: Endpoint, condition: Condition) {
        self.emulator.control().set_endpoint(endpoint, condition);
    }

    /// Sends a valid request to an endpoint. The other endpoints must be healthy.
    async fn request(&self, endpoint: Endpoint) -> reqwest::Result<TestResponse> {
        let url = self.emulator.url();
        let request = match endpoint {
            Endpoint::Token => {
                return try_first_response(&file(&self.emulator, Kind::AuthorizedUser), SCOPE).await;
            }
            Endpoint::Sts => {
                return try_first_response(&file(&self.emulator, Kind::ExternalAccountFile), SCOPE).await;
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
        send(request).await
    }

    /// The JSON of a token that an endpoint issues in a condition.
    async fn issued(&self, endpoint: Endpoint, condition: Condition) -> Value {
        self.set(endpoint, condition);
        let response = self.request(endpoint).await.unwrap();
        assert_eq!(response.status, 200, "{endpoint:?} {condition:?}: {response:?}");
        serde_json::from_str(&response.text).unwrap()
    }
}

/// The names of the members for the token and for its lifetime.
fn members(endpoint: Endpoint) -> (&'static str, Option<&'static str>) {
    match endpoint {
        Endpoint::SubjectToken => ("subject_token", None),
        Endpoint::Iam => ("accessToken", Some("expireTime")),
        Endpoint::Token | Endpoint::Sts | Endpoint::Metadata => ("access_token", Some("expires_in")),
    }
}

#[tokio::test]
async fn each_fault_has_its_status_and_can_be_removed() {
    let client = EndpointClient::new().await;
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
            client.set(endpoint, condition);
            let response = client.request(endpoint).await.unwrap();
            assert_eq!(response.status, status, "{endpoint:?} {condition:?}: {response:?}");
            if condition == Condition::Html {
                assert_eq!(response.content_type, "text/html; charset=UTF-8", "{endpoint:?}");
            }
            if condition == Condition::Failing {
                assert_eq!(response.error(), (500, "INTERNAL".to_owned()), "{endpoint:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_fault_affects_one_endpoint_only() {
    let client = EndpointClient::new().await;
    for faulty in ALL {
        client.set(faulty, Condition::Unavailable);
        for endpoint in ALL {
            let status = client.request(endpoint).await.unwrap().status;
            assert_eq!(status, if endpoint == faulty { 503 } else { 200 }, "{faulty:?} {endpoint:?}");
        }
        client.set(faulty, Condition::Healthy);
    }
}

#[tokio::test]
async fn a_response_can_lack_the_token_or_its_lifetime() {
    let client = EndpointClient::new().await;
    for endpoint in ALL {
        let (token, lifetime) = members(endpoint);
        let whole = client.issued(endpoint, Condition::Healthy).await;
        assert!(whole[token].is_string(), "{endpoint:?}: {whole}");
        let without = client.issued(endpoint, Condition::WithoutToken).await;
        assert!(without.get(token).is_none(), "{endpoint:?}: {without}");
        let without = client.issued(endpoint, Condition::LifetimeAbsent).await;
        assert!(without[token].is_string(), "{endpoint:?}: {without}");
        let Some(lifetime) = lifetime else { continue };
        assert!(whole.get(lifetime).is_some() && without.get(lifetime).is_none(), "{endpoint:?}: {without}");
    }
}

#[tokio::test]
async fn a_lifetime_can_be_negative_or_absurd() {
    let client = EndpointClient::new().await;
    for endpoint in [Endpoint::Token, Endpoint::Sts, Endpoint::Metadata] {
        assert_eq!(client.issued(endpoint, Condition::LifetimeNegative).await["expires_in"], -1);
        assert_eq!(client.issued(endpoint, Condition::LifetimeAbsurd).await["expires_in"], u64::MAX);
    }
    let time = |value: Value| humantime::parse_rfc3339(value["expireTime"].as_str().unwrap()).unwrap();
    assert!(time(client.issued(Endpoint::Iam, Condition::LifetimeNegative).await) < SystemTime::now());
    let century = Duration::from_secs(100 * 365 * 86_400);
    assert!(
        time(client.issued(Endpoint::Iam, Condition::LifetimeAbsurd).await) > SystemTime::now() + century
    );
}

#[tokio::test]
async fn a_response_can_be_truncated_delayed_or_absent() {
    let client = EndpointClient::new().await;
    for endpoint in ALL {
        client.set(endpoint, Condition::Reset);
        let reset = client.request(endpoint).await.unwrap_err();
        assert!(reset.is_request() && !reset.is_connect(), "{endpoint:?}: {reset:?}");
        client.set(endpoint, Condition::Truncated);
        let broken = client.request(endpoint).await.unwrap_err();
        assert!(broken.is_decode() || broken.is_body(), "{endpoint:?}: {broken:?}");
        client.set(endpoint, Condition::Hanging);
        let waited = tokio::time::timeout(Duration::from_millis(50), client.request(endpoint)).await;
        assert!(waited.is_err(), "{endpoint:?}: {waited:?}");
        let slow = Duration::from_millis(20);
        client.set(endpoint, Condition::Slow(slow));
        let start = Instant::now();
        assert_eq!(client.request(endpoint).await.unwrap().status, 200, "{endpoint:?}");
        assert!(start.elapsed() >= slow, "{endpoint:?}");
        client.set(endpoint, Condition::Healthy);
    }
}

#[tokio::test]
async fn a_truncated_response_ends_its_stream_and_not_the_connection() {
    let emulator = start().await;
    let client = Client::new(&emulator, Protocol::Http2).await;
    emulator.control().set_endpoint(Endpoint::Metadata, Condition::Truncated);
    let broken = send(client.http.get(emulator.url())).await.unwrap_err();
    assert!(broken.is_decode() || broken.is_body(), "{broken:?}");
    emulator.control().set_endpoint(Endpoint::Metadata, Condition::Healthy);
    assert_eq!(send(client.http.get(emulator.url())).await.unwrap().text, "computeMetadata/\n");
}

#[tokio::test]
async fn every_request_is_counted_by_its_endpoint() {
    let client = EndpointClient::new().await;
    let before = client.emulator.control().queries();
    for endpoint in ALL {
        client.set(endpoint, Condition::Refusing);
        assert_ne!(client.request(endpoint).await.unwrap().status, 200);
    }
    let after = client.emulator.control().queries();
    let counts = |queries: countermand_emulator::Queries| {
        [queries.token, queries.sts, queries.subject_token, queries.metadata_token, queries.iam]
    };
    assert_eq!(counts(after), counts(before).map(|count| count + 1));
}
