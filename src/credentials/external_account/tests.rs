use serde_json::json;

use crate::credentials::testing::{
    CLIENT_SECRET, Reply, Server, TARGET, TARGET_PATH, bearer, external_account, fetch, file, load_error,
};

const SUBJECT_TOKEN: &str = "subject~token";

fn exchanged() -> Reply {
    let body = json!({"access_token": "federated~token", "expires_in": 3600, "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
    Reply::new(200, body.to_string())
}

#[tokio::test]
async fn the_subject_token_is_exchanged() {
    let server = Server::start([exchanged()]).await;
    let subject_token = file(SUBJECT_TOKEN);
    let token = fetch(&external_account(&server.url, subject_token.path())).await.expect("a token");
    assert_eq!((bearer(&token).as_str(), token.lifetime().as_secs()), ("Bearer federated~token", 3600));
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/sts"));
    assert!(!seen.headers.contains_key("authorization"));
    let form = seen.form();
    let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        form,
        [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            (
                "audience",
                "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k8s"
            ),
            ("scope", "https://www.googleapis.com/auth/androidmanagement"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", SUBJECT_TOKEN),
        ]
    );
}

#[tokio::test]
async fn the_exchanged_token_impersonates_the_account_of_the_file() {
    let server = Server::start([exchanged(), Reply::generated("ya29.target")]).await;
    let subject_token = file(SUBJECT_TOKEN);
    let mut credential = external_account(&server.url, subject_token.path());
    credential["service_account_impersonation_url"] = json!(format!("{}{TARGET_PATH}", server.url));
    credential["service_account_impersonation"] = json!({"token_lifetime_seconds": 1200});
    credential["quota_project_id"] = json!("billed");
    let token = fetch(&credential).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.target");
    assert_eq!(token.lifetime().as_secs(), 1200, "at most the requested lifetime");
    assert_eq!(token.quota_project().expect("a project"), "billed");
    let [exchange, generation] = &server.seen()[..] else { panic!("two requests") };
    let scope = ("scope".to_owned(), "https://www.googleapis.com/auth/cloud-platform".to_owned());
    assert!(exchange.form().contains(&scope));
    assert_eq!(generation.headers["authorization"], "Bearer federated~token");
    assert_eq!(generation.json()["lifetime"], "1200s");
}

#[tokio::test]
async fn a_client_authenticates_and_without_one_the_request_names_the_project() {
    let server = Server::start([exchanged(), exchanged()]).await;
    let subject_token = file(SUBJECT_TOKEN);
    let mut credential = external_account(&server.url, subject_token.path());
    credential["workforce_pool_user_project"] = json!("billed");
    fetch(&credential).await.expect("a token");
    credential["client_id"] = json!("client");
    credential["client_secret"] = json!(CLIENT_SECRET);
    fetch(&credential).await.expect("a token");
    let [named, authenticated] = &server.seen()[..] else { panic!("two requests") };
    let options = ("options".to_owned(), r#"{"userProject":"billed"}"#.to_owned());
    assert!(named.form().contains(&options));
    assert!(!authenticated.form().contains(&options));
    // base64 of `client:client~secret`
    assert_eq!(authenticated.headers["authorization"], "Basic Y2xpZW50OmNsaWVudH5zZWNyZXQ=");
}

#[tokio::test]
async fn a_refusal_names_the_service_and_contains_no_secret() {
    let description = format!("not {SUBJECT_TOKEN} of client:{CLIENT_SECRET}");
    let body = json!({"error": "invalid_grant", "error_description": description});
    let server = Server::start([Reply::new(400, body.to_string()), Reply::new(503, "")]).await;
    let subject_token = file(SUBJECT_TOKEN);
    let mut credential = external_account(&server.url, subject_token.path());
    credential["client_id"] = json!("client");
    credential["client_secret"] = json!(CLIENT_SECRET);
    let error = fetch(&credential).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the security token service answered HTTP 400: invalid_grant not [left out] of client:[left out]"
    );
    assert!(error.is_permanent());
    assert!(!fetch(&credential).await.expect_err("unavailable").is_permanent());
    server.seen();
}

#[tokio::test]
async fn the_authorization_header_of_a_client_is_redacted() {
    // base64 of `client:client~secret`
    for echoed in ["Basic Y2xpZW50OmNsaWVudH5zZWNyZXQ=", "Y2xpZW50OmNsaWVudH5zZWNyZXQ", "client~secret"] {
        let body = json!({"error": "invalid_client", "error_description": format!("got {echoed}")});
        let server = Server::start([Reply::new(401, body.to_string())]).await;
        let subject_token = file(SUBJECT_TOKEN);
        let mut credential = external_account(&server.url, subject_token.path());
        credential["client_id"] = json!("client");
        credential["client_secret"] = json!(CLIENT_SECRET);
        let error = fetch(&credential).await.expect_err("refused").to_string();
        let rest = error.strip_prefix("the security token service answered HTTP 401: invalid_client got ");
        assert_eq!(rest.expect(&error).trim_start_matches("Basic "), "[left out]");
        server.seen();
    }
}

#[test]
fn an_invalid_file_is_reported_by_its_member() {
    let good = external_account("https://sts.example.com", "/token".as_ref());
    for (member, value, expected) in [
        ("audience", json!(null), r#"its "audience" is missing"#),
        ("subject_token_type", json!(7), r#"its "subject_token_type" has the wrong type"#),
        ("token_url", json!(""), r#"its "token_url" is missing"#),
        ("token_url", json!("http://sts.example.com/~"), r#"its "token_url" must be an https URL"#),
        ("client_secret", json!(CLIENT_SECRET), r#"its "client_id" is missing"#),
        ("credential_source", json!(null), r#"its "credential_source" is missing"#),
        ("credential_source", json!("~"), r#"its "credential_source" has the wrong type"#),
        (
            "service_account_impersonation_url",
            json!(format!("https://iam.example.com/{TARGET}")),
            "must end in projects/-/serviceAccounts/EMAIL:generateAccessToken",
        ),
    ] {
        let mut credential = good.clone();
        credential[member] = value;
        let error = load_error(&credential);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}
