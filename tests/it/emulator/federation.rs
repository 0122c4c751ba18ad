//! Workload identity federation: subject tokens and their exchange.

use std::os::unix::fs::PermissionsExt;

use countermand_emulator::Kind;
use serde_json::json;

use crate::emulator::client::send;
use crate::emulator::sign_in::{
    ACCESS_TOKEN, EXCHANGE, SCOPE, file, first_response, http, post, start, subject_token,
};

#[tokio::test]
async fn the_response_of_an_exchange_has_the_members_of_rfc_8693() {
    let emulator = start().await;
    let granted = first_response(&file(&emulator, Kind::ExternalAccountFile), SCOPE).await;
    assert_eq!((granted.status, &granted.headers["cache-control"]), (200, &"no-store".parse().unwrap()));
    let granted = granted.json();
    assert!(granted["access_token"].as_str().is_some_and(|token| !token.is_empty()));
    assert_eq!(granted["issued_token_type"], ACCESS_TOKEN);
    assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3600)));
}

#[tokio::test]
async fn each_parameter_of_an_exchange_is_checked() {
    let emulator = start().await;
    let file = file(&emulator, Kind::ExternalAccountUrl);
    let subject = subject_token(&file["credential_source"]).await;
    let valid = [
        ("grant_type", EXCHANGE),
        ("audience", file["audience"].as_str().unwrap()),
        ("scope", SCOPE),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token", &subject),
        ("subject_token_type", file["subject_token_type"].as_str().unwrap()),
    ];
    let url = file["token_url"].as_str().unwrap();
    for (invalid, error) in [
        ("grant_type", "unsupported_grant_type"),
        ("audience", "invalid_target"),
        ("scope", "invalid_scope"),
        ("requested_token_type", "invalid_request"),
        ("subject_token", "invalid_grant"),
        ("subject_token_type", "invalid_request"),
    ] {
        let form = valid.map(|(name, value)| (name, if name == invalid { "x" } else { value }));
        let rejected = post(url, &form).await;
        assert_eq!((rejected.status, &rejected.json()["error"]), (400, &json!(error)), "{invalid}");
        let missing: Vec<_> = valid.into_iter().filter(|(name, _)| *name != invalid).collect();
        let rejected = post(url, &missing).await;
        assert_eq!(
            (rejected.status, &rejected.json()["error"]),
            (400, &json!("invalid_request")),
            "{invalid}"
        );
    }
    assert_eq!(post(url, &valid).await.status, 200);
}

#[tokio::test]
async fn a_subject_token_requires_the_header() {
    let emulator = start().await;
    let source = file(&emulator, Kind::ExternalAccountUrl)["credential_source"].clone();
    let url = source["url"].as_str().unwrap();
    let (name, value) = source["headers"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(send(http().get(url)).await.unwrap().status, 401);
    assert_eq!(send(http().get(url).header(name, "x")).await.unwrap().status, 401);
    let given = send(http().get(url).header(name, value.as_str().unwrap())).await.unwrap();
    let as_text = url.replace("?format=json", "");
    let text = send(http().get(as_text).header(name, value.as_str().unwrap())).await.unwrap();
    assert_eq!(text.content_type, "text/plain; charset=UTF-8");
    assert_eq!(given.json(), json!({ "subject_token": text.text }));
}

#[tokio::test]
async fn a_rotation_replaces_the_file_and_ends_the_old_token() {
    let emulator = start().await;
    let file = file(&emulator, Kind::ExternalAccountFile);
    let path = file["credential_source"]["file"].as_str().unwrap();
    let old = std::fs::read_to_string(path).unwrap();
    emulator.control().rotate_subject_tokens().unwrap();
    assert_ne!(std::fs::read_to_string(path).unwrap(), old);
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(first_response(&file, SCOPE).await.status, 200);
    std::fs::write(path, old).unwrap();
    let rejected = first_response(&file, SCOPE).await;
    assert_eq!((rejected.status, &rejected.json()["error"]), (400, &json!("invalid_grant")));
}
