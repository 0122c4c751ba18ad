use reqwest::Url;
use serde_json::{Value, json};

use super::Impersonation;
use crate::credentials::testing::{
    Reply, Server, TARGET, TARGET_PATH, authorized_user, bearer, fetch, load, load_error, service_account,
    surroundings,
};

const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
const ANDROID_MANAGEMENT: &str = "https://www.googleapis.com/auth/androidmanagement";

fn impersonated(url: &str, source: &Value) -> Value {
    json!({
        "type": "impersonated_service_account",
        "service_account_impersonation_url": format!("{url}{TARGET_PATH}"),
        "source_credentials": source,
        "delegates": ["a@p.iam.gserviceaccount.com", "projects/-/serviceAccounts/b@p.iam.gserviceaccount.com"],
    })
}

#[tokio::test]
async fn the_targets_token_is_requested_with_the_sources_token() {
    let server = Server::start([Reply::token("source~token"), Reply::generated("ya29.target")]).await;
    let source = authorized_user(&server.url);
    let token = fetch(&impersonated(&server.url, &source)).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.target");
    let lifetime = token.lifetime().as_secs();
    assert!((1700..=1800).contains(&lifetime), "{lifetime}");
    let [refresh, generation] = &server.seen()[..] else { panic!("two requests") };
    assert_eq!(refresh.path, "/token");
    assert_eq!((generation.method.as_str(), generation.path.as_str()), ("POST", TARGET_PATH));
    assert_eq!(generation.headers["authorization"], "Bearer source~token");
    assert!(!generation.headers.contains_key("x-goog-user-project"));
    assert_eq!(
        generation.json(),
        json!({"scope": [ANDROID_MANAGEMENT], "lifetime": "3600s", "delegates": [
            "projects/-/serviceAccounts/a@p.iam.gserviceaccount.com",
            "projects/-/serviceAccounts/b@p.iam.gserviceaccount.com",
        ]})
    );
}

#[tokio::test]
async fn each_request_names_the_quota_project_of_its_credential() {
    let server = Server::start([Reply::token("source~token"), Reply::generated("ya29.target")]).await;
    let mut source = authorized_user(&server.url);
    source["quota_project_id"] = json!("of-the-source");
    let mut credential = impersonated(&server.url, &source);
    credential["quota_project_id"] = json!("of-the-target");
    let token = fetch(&credential).await.expect("a token");
    assert_eq!(token.quota_project().expect("a project"), "of-the-target");
    assert_eq!(server.seen()[1].headers["x-goog-user-project"], "of-the-source");
}

#[tokio::test]
async fn the_impersonate_setting_applies_to_any_credential() {
    let iam = Server::start([Reply::generated("ya29.target")]).await;
    let server = Server::start([Reply::token("source~token")]).await;
    let loaded = load(&service_account(&server.url), Some(TARGET)).expect("a credential");
    let surroundings = surroundings(&iam.url);
    assert_eq!(loaded.identify(&surroundings).await.expect("an account"), "robot@p.iam.gserviceaccount.com");
    assert_eq!(bearer(&loaded.fetch(&surroundings).await.expect("a token")), "Bearer ya29.target");
    server.seen();
    let [generation] = &iam.seen()[..] else { panic!("one request") };
    assert_eq!(generation.path, TARGET_PATH);
    assert_eq!(
        generation.json(),
        json!({"scope": [ANDROID_MANAGEMENT], "lifetime": "3600s", "delegates": []})
    );
}

#[tokio::test]
async fn the_impersonate_setting_extends_an_impersonation_chain() {
    let iam = Server::start([Reply::generated("ya29.last")]).await;
    let replies = [Reply::token("source~token"), Reply::generated("ya29.between")];
    let server = Server::start(replies).await;
    let file = impersonated(&server.url, &service_account(&server.url));
    let loaded = load(&file, Some("last@p.iam.gserviceaccount.com")).expect("a credential");
    let surroundings = surroundings(&iam.url);
    assert_eq!(loaded.identify(&surroundings).await.expect("an account"), TARGET);
    assert_eq!(bearer(&loaded.fetch(&surroundings).await.expect("a token")), "Bearer ya29.last");
    assert_eq!(server.seen()[1].json()["scope"], json!([CLOUD_PLATFORM]));
    let [last] = &iam.seen()[..] else { panic!("one request") };
    assert_eq!(last.headers["authorization"], "Bearer ya29.between");
    assert_eq!(last.json()["scope"], json!([ANDROID_MANAGEMENT]));
    assert!(last.path.ends_with("/last@p.iam.gserviceaccount.com:generateAccessToken"), "{}", last.path);
}

#[tokio::test]
async fn an_error_names_its_step_and_whether_it_is_permanent() {
    let invalid = Reply::new(400, json!({"error": "invalid_grant"}).to_string());
    let denied = json!({"error": {"code": 403, "status": "PERMISSION_DENIED",
        "message": "Permission 'iam.serviceAccounts.getAccessToken' denied to source~token"}});
    let unknown =
        json!({"error": {"code": 404, "status": "NOT_FOUND", "message": "Not found; Gaia id not found"}});
    let token = || Reply::token("source~token");
    for (replies, expected, permanent) in [
        (
            vec![invalid],
            "the token of the source credential: the token endpoint answered HTTP 400: invalid_grant",
            true,
        ),
        (
            vec![token(), Reply::new(403, denied.to_string())],
            "generateAccessToken of target@p.iam.gserviceaccount.com answered HTTP 403: PERMISSION_DENIED \
             Permission 'iam.serviceAccounts.getAccessToken' denied to [left out]",
            true,
        ),
        (
            vec![token(), Reply::new(404, unknown.to_string())],
            "generateAccessToken of target@p.iam.gserviceaccount.com answered HTTP 404: NOT_FOUND \
             Not found; Gaia id not found",
            true,
        ),
        (
            vec![token(), Reply::new(429, "")],
            "generateAccessToken of target@p.iam.gserviceaccount.com answered HTTP 429",
            false,
        ),
        (
            vec![token(), Reply::new(200, "{\"error\": 1}")],
            "generateAccessToken of target@p.iam.gserviceaccount.com answered without an accessToken",
            false,
        ),
    ] {
        let server = Server::start(replies).await;
        let error =
            fetch(&impersonated(&server.url, &service_account(&server.url))).await.expect_err("refused");
        assert_eq!((error.to_string().as_str(), error.is_permanent()), (expected, permanent));
        server.seen();
    }
}

#[test]
fn an_email_is_one_segment_of_the_path() {
    let iam = Url::parse("https://gateway.example.com/iam/").expect("a URL");
    let path = |email| Impersonation::of(email, &iam).url.path().to_owned();
    assert_eq!(path(TARGET), format!("/iam{TARGET_PATH}"));
    assert_eq!(path("../a?b#c"), "/iam/v1/projects/-/serviceAccounts/..%2Fa%3Fb%23c:generateAccessToken");
}

#[test]
fn an_invalid_file_is_reported_by_its_member() {
    let good = impersonated("https://iam.example.com", &authorized_user("https://oauth.example.com"));
    let mut incomplete = authorized_user("https://oauth.example.com");
    incomplete["refresh_token"] = json!(null);
    const URL: &str = "service_account_impersonation_url";
    for (member, value, expected) in [
        (URL, json!(null), r#"its "service_account_impersonation_url" is missing"#),
        (URL, json!(format!("http://iam.example.com{TARGET_PATH}")), "must be an https URL"),
        (URL, json!("https://iam.example.com/~"), "must end in projects/-/serviceAccounts/EMAIL:generate"),
        ("source_credentials", json!(null), r#"its "source_credentials" is missing"#),
        ("source_credentials", good.clone(), "must be another than that of the file around it"),
        ("source_credentials", incomplete, r#"its "source_credentials.refresh_token" is missing"#),
        (
            "source_credentials",
            json!({"type": "~"}),
            r#"its "source_credentials.type" must be service_account"#,
        ),
        ("delegates", json!("~"), r#"its "delegates" has the wrong type"#),
        ("delegates", json!([7]), r#"its "delegates[0]" has the wrong type"#),
        ("delegates", json!([""]), r#"its "delegates" must be a list"#),
        ("service_account_impersonation", json!(7), "has the wrong type"),
        ("service_account_impersonation", json!({"token_lifetime_seconds": 599}), "from 600 to 43200"),
        ("service_account_impersonation", json!({"token_lifetime_seconds": "1h~"}), "has the wrong type"),
        ("quota_project_id", json!("~\n"), r#"its "quota_project_id" must be the id of a project"#),
    ] {
        let mut credential = good.clone();
        credential[member] = value;
        let error = load_error(&credential);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}
