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
async fn a_token_is_valid_for_its_stated_lifetime() {
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
async fn the_lifetime_setting_limits_an_impersonated_token() {
    let emulator = start().await;
    emulator.control().set_token_lifetime(Duration::from_secs(65));
    let bearer = token(&file(&emulator, Kind::AuthorizedUser), CLOUD_PLATFORM).await;
    let given = impersonate(&url(&emulator, &email("proxy")), &bearer, &json!({ "scope": [SCOPE] })).await;
    let end = humantime::parse_rfc3339(given.json()["expireTime"].as_str().unwrap()).unwrap();
    assert!(end <= SystemTime::now() + Duration::from_secs(65));
}

#[tokio::test]
async fn impersonation_requires_a_token_with_the_scope() {
    let emulator = start().await;
    let url = url(&emulator, &email("proxy"));
    let body = json!({ "scope": [SCOPE] });
    let unknown = impersonate(&url, "ya29.c.invented", &body).await;
    assert_eq!(unknown.error(), (401, "UNAUTHENTICATED".to_owned()));
    let other = token(&file(&emulator, Kind::ServiceAccount), SCOPE).await;
    let rejected = impersonate(&url, &other, &body).await;
    assert_eq!(rejected.error(), (403, "PERMISSION_DENIED".to_owned()));
    assert_eq!(rejected.reason(), "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
    let metadata = rejected.json()["error"]["details"][0]["metadata"].clone();
    let method = "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken";
    assert_eq!(metadata, json!({ "service": "iamcredentials.googleapis.com", "method": method }));
    assert_eq!(emulator.control().callers(), Vec::<String>::new());
}

#[tokio::test]
async fn only_an_existing_account_that_may_be_impersonated_is_impersonated() {
    let emulator = start().await;
    let control = emulator.control();
    let (target, delegate) = (email("proxy"), email("emulator"));
    let bearer = token(&file(&emulator, Kind::AuthorizedUser), CLOUD_PLATFORM).await;
    let through = |delegate: &str| {
        let delegates = [format!("projects/-/serviceAccounts/{delegate}")];
        json!({ "scope": [SCOPE], "delegates": delegates })
    };
    let request = async |email: &str, body: Value| impersonate(&url(&emulator, email), &bearer, &body).await;

    let not_found = (404, "NOT_FOUND".to_owned());
    assert_eq!(request("none@example.com", json!({ "scope": [SCOPE] })).await.error(), not_found);
    assert_eq!(request(&target, through("none@example.com")).await.error(), not_found);
    assert_eq!(request(&target, through(&delegate)).await.status, 200);

    for account in [&target, &delegate] {
        assert!(control.set_impersonable(account, false));
        let rejected = request(&target, through(&delegate)).await;
        assert_eq!(rejected.error(), (403, "PERMISSION_DENIED".to_owned()), "{account}");
        assert_eq!(rejected.reason(), "IAM_PERMISSION_DENIED");
        assert!(control.set_impersonable(account, true));
    }
    assert!(control.set_enabled(&target, false));
    let disabled = request(&target, through(&delegate)).await;
    assert_eq!(disabled.error(), (400, "FAILED_PRECONDITION".to_owned()));
    assert!(!control.set_impersonable("none@example.com", false));
}

#[tokio::test]
async fn an_invalid_body_is_rejected() {
    let emulator = start().await;
    let bearer = token(&file(&emulator, Kind::AuthorizedUser), CLOUD_PLATFORM).await;
    for body in [
        json!({}),
        json!({ "scope": [] }),
        json!({ "scope": [SCOPE], "lifetime": "3601s" }),
        json!({ "scope": [SCOPE], "delegates": ["proxy"] }),
        json!({ "scopes": [SCOPE] }),
    ] {
        let rejected = impersonate(&url(&emulator, &email("proxy")), &bearer, &body).await;
        assert_eq!(rejected.error(), (400, "INVALID_ARGUMENT".to_owned()), "{body}");
    }
}
