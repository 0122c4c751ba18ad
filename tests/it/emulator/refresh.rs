//! The token endpoint, as a person's credentials ask it.

use countermand_emulator::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::emulator::client::answer;
use crate::emulator::sign_in::{SCOPE, file, http, post, start};

#[tokio::test]
async fn a_refresh_without_scopes_gets_all_that_were_agreed_to() {
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
async fn what_does_not_fit_is_refused_in_oauths_words() {
    let emulator = start().await;
    let file = file(&emulator, Kind::AuthorizedUser);
    let members = ["client_id", "client_secret", "refresh_token"];
    for (wrong, status, error) in [
        ("client_id", 401, "invalid_client"),
        ("client_secret", 401, "invalid_client"),
        ("refresh_token", 400, "invalid_grant"),
        ("grant_type", 400, "unsupported_grant_type"),
    ] {
        let value = |member| if member == wrong { "x" } else { file[member].as_str().unwrap() };
        let grant = if wrong == "grant_type" { "password" } else { "refresh_token" };
        let mut form: Vec<_> = members.map(|member| (member, value(member))).into();
        form.push(("grant_type", grant));
        let refused = post(file["token_uri"].as_str().unwrap(), &form).await;
        assert_eq!((refused.status, &refused.json()["error"]), (status, &json!(error)), "{wrong}");
    }
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let emulator = start().await;
    for path in ["/token", "/v1/token"] {
        let request = http().request(Method::POST, format!("{}{path}", emulator.url()));
        let request = request.header("content-type", "application/json").body("{}");
        let refused = answer(request).await.unwrap();
        let error: Value = refused.json()["error"].clone();
        assert_eq!((refused.status, error), (400, json!("invalid_request")), "{path}");
    }
}
