//! IAM Credentials.

use std::time::{Duration, SystemTime};

use countermand_emulator::{Emulator, Kind};
use serde_json::{Value, json};

use crate::emulator::sign_in::{CLOUD_PLATFORM, SCOPE, file, impersonate, list, start, token};

const IAM: &str = "https://www.googleapis.com/auth/iam";

fn url(emulator: &Emulator, email: &str) -> String {
    format!("{}/v1/projects/-/serviceAccounts/{email}:generateAccessToken", emulator.url())
}

fn email(name: &str) -> String {
    format!("{name}@countermand-emulator.iam.gserviceaccount.com")
}

#[tokio::test]
async fn a_token_is_valid_for_the_lifetime_that_it_says() {
    let emulator = start().await;
    emulator.service_account("emea").unwrap();
    let source = file(&emulator, Kind::ServiceAccount);
    for scope in [CLOUD_PLATFORM, IAM] {
        let bearer = token(&source, scope).await;
        let body = json!({ "scope": [SCOPE], "lifetime": "300s", "delegates": [] });
        let before = SystemTime::now();
        let given = impersonate(&url(&emulator, &email("emea")), &bearer, &body).await.json();
        let end = humantime::parse_rfc3339(given["expireTime"].as_str().unwrap()).unwrap();
        // The text has no fractions of a second.
        assert!(end > before + Duration::from_secs(298), "{end:?}");
        assert!(end <= SystemTime::now() + Duration::from_secs(300), "{end:?}");
        assert_eq!(list(&emulator, given["accessToken"].as_str().unwrap()).await.status, 200, "{scope}");
        assert_eq!(emulator.control().callers().last(), Some(&email("emea")));
    }
}

#[tokio::test]
async fn a_token_here_is_no_longer_valid_than_tokens_are() {
    let emulator = start().await;
    emulator.control().set_token_lifetime(Duration::from_secs(65));
    let bearer = token(&file(&emulator, Kind::AuthorizedUser), CLOUD_PLATFORM).await;
    let given = impersonate(&url(&emulator, &email("proxy")), &bearer, &json!({ "scope": [SCOPE] })).await;
    let end = humantime::parse_rfc3339(given.json()["expireTime"].as_str().unwrap()).unwrap();
    assert!(end <= SystemTime::now() + Duration::from_secs(65));
}

#[tokio::test]
async fn who_calls_needs_a_token_of_the_right_scope() {
    let emulator = start().await;
    let url = url(&emulator, &email("proxy"));
    let body = json!({ "scope": [SCOPE] });
    let unknown = impersonate(&url, "ya29.c.invented", &body).await;
    assert_eq!(unknown.error(), (401, "UNAUTHENTICATED".to_owned()));
    let other = token(&file(&emulator, Kind::ServiceAccount), SCOPE).await;
    let refused = impersonate(&url, &other, &body).await;
    assert_eq!(refused.error(), (403, "PERMISSION_DENIED".to_owned()));
    assert_eq!(refused.reason(), "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
    let metadata = refused.json()["error"]["details"][0]["metadata"].clone();
    let method = "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken";
    assert_eq!(metadata, json!({ "service": "iamcredentials.googleapis.com", "method": method }));
    assert_eq!(emulator.control().callers(), Vec::<String>::new());
}

#[tokio::test]
async fn only_an_account_that_exists_and_may_be_impersonated_is() {
    let emulator = start().await;
    let control = emulator.control();
    let (target, delegate) = (email("proxy"), email("emulator"));
    let bearer = token(&file(&emulator, Kind::AuthorizedUser), CLOUD_PLATFORM).await;
    let through = |delegate: &str| {
        let delegates = [format!("projects/-/serviceAccounts/{delegate}")];
        json!({ "scope": [SCOPE], "delegates": delegates })
    };
    let ask = async |email: &str, body: Value| impersonate(&url(&emulator, email), &bearer, &body).await;

    let not_found = (404, "NOT_FOUND".to_owned());
    assert_eq!(ask("none@example.com", json!({ "scope": [SCOPE] })).await.error(), not_found);
    assert_eq!(ask(&target, through("none@example.com")).await.error(), not_found);
    assert_eq!(ask(&target, through(&delegate)).await.status, 200);

    for locked in [&target, &delegate] {
        assert!(control.set_impersonable(locked, false));
        let refused = ask(&target, through(&delegate)).await;
        assert_eq!(refused.error(), (403, "PERMISSION_DENIED".to_owned()), "{locked}");
        assert_eq!(refused.reason(), "IAM_PERMISSION_DENIED");
        assert!(control.set_impersonable(locked, true));
    }
    assert!(control.set_enabled(&target, false));
    let disabled = ask(&target, through(&delegate)).await;
    assert_eq!(disabled.error(), (400, "FAILED_PRECONDITION".to_owned()));
    assert!(!control.set_impersonable("none@example.com", false));
}

#[tokio::test]
async fn a_wrong_body_is_refused() {
    let emulator = start().await;
    let bearer = token(&file(&emulator, Kind::AuthorizedUser), CLOUD_PLATFORM).await;
    for body in [
        json!({}),
        json!({ "scope": [] }),
        json!({ "scope": [SCOPE], "lifetime": "3601s" }),
        json!({ "scope": [SCOPE], "delegates": ["proxy"] }),
        json!({ "scopes": [SCOPE] }),
    ] {
        let refused = impersonate(&url(&emulator, &email("proxy")), &bearer, &body).await;
        assert_eq!(refused.error(), (400, "INVALID_ARGUMENT".to_owned()), "{body}");
    }
}
