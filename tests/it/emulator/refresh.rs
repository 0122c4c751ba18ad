//! The token endpoint with a person's refresh token.

use countermand_emulator::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::emulator::client::send;
use crate::emulator::sign_in::{SCOPE, file, http, post, start};

#[tokio::test]
async fn a_refresh_without_scopes_gets_all_consented_scopes() {
    let emulator = start().await;
    let file = file(&emulator, Kind::AuthorizedUser);
    let text = |member: &str| file[member].as_str().unwrap().to_owned();
    let (id, secret, refresh) = (text("client_id"), text("client_secret"), text("refresh_token"));
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", &*id),
        ("client_secret", &*secret),
        ("refresh_token", &*refresh),
    ];
    let granted = post(&text("token_uri"), &form).await;
    assert_eq!(granted.headers["cache-control"], "no-store");
    let granted = granted.json();
    assert_eq!((&granted["expires_in"], &granted["token_type"]), (&json!(3600), &json!("Bearer")));
    let scopes: Vec<_> = granted["scope"].as_str().unwrap().split(' ').collect();
    assert!(scopes.contains(&SCOPE) && scopes.contains(&"openid"), "{scopes:?}");
}

#[tokio::test]
async fn an_invalid_parameter_gets_its_oauth_error() {
    let emulator = start().await;
    let file = file(&emulator, Kind::AuthorizedUser);
    let members = ["client_id", "client_secret", "refresh_token"];
    for (invalid, status, error) in [
        ("client_id", 401, "invalid_client"),
        ("client_secret", 401, "invalid_client"),
        ("refresh_token", 400, "invalid_grant"),
        ("grant_type", 400, "unsupported_grant_type"),
    ] {
        let value = |member| if member == invalid { "x" } else { file[member].as_str().unwrap() };
        let grant = if invalid == "grant_type" { "password" } else { "refresh_token" };
        let mut form: Vec<_> = members.map(|member| (member, value(member))).into();
        form.push(("grant_type", grant));
        let rejected = post(file["token_uri"].as_str().unwrap(), &form).await;
        assert_eq!((rejected.status, &rejected.json()["error"]), (status, &json!(error)), "{invalid}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_form_is_rejected() {
    let emulator = start().await;
    for path in ["/token", "/v1/token"] {
        let request = http().request(Method::POST, format!("{}{path}", emulator.url()));
        let request = request.header("content-type", "application/json").body("{}");
        let rejected = send(request).await.unwrap();
        let error: Value = rejected.json()["error"].clone();
        assert_eq!((rejected.status, error), (400, json!("invalid_request")), "{path}");
    }
}
