//! Sign-in with a credential file of any kind, written without Google's libraries.

use countermand_emulator::{Emulator, Kind, Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::emulator::client::{DEVICE, TestResponse, assertion_for, send};

pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/androidmanagement";
pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(crate) fn http() -> reqwest::Client {
    // The call fails if another test has installed the provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// An emulator with an operation to list.
pub(crate) async fn start() -> Emulator {
    let emulator = crate::emulator::client::start(Settings::default()).await;
    emulator.control().issue_command(DEVICE, json!({ "type": "LOCK" })).unwrap();
    emulator
}

/// The JSON of a credential file of this kind.
pub(crate) fn file(emulator: &Emulator, kind: Kind) -> Value {
    serde_json::from_str(emulator.credential_file(kind).expose()).unwrap()
}

/// Posts a form.
pub(crate) async fn post(url: &str, form: &[(&str, &str)]) -> TestResponse {
    try_post(url, form).await.unwrap()
}

async fn try_post(url: &str, form: &[(&str, &str)]) -> reqwest::Result<TestResponse> {
    let mut body = form_urlencoded::Serializer::new(String::new());
    let body = body.extend_pairs(form).finish();
    let request = http().post(url).header("content-type", "application/x-www-form-urlencoded");
    send(request.body(body)).await
}

/// Sends the first request of a credential file of this type, and returns the response.
pub(crate) async fn first_response(file: &Value, scope: &str) -> TestResponse {
    try_first_response(file, scope).await.unwrap()
}

/// As [`first_response`]. Returns an error if there is no response.
pub(crate) async fn try_first_response(file: &Value, scope: &str) -> reqwest::Result<TestResponse> {
    let text = |member: &str| file[member].as_str().unwrap();
    match text("type") {
        "service_account" => {
            let assertion = assertion_for(&file.to_string(), scope);
            try_post(text("token_uri"), &[("grant_type", JWT_BEARER), ("assertion", &assertion)]).await
        }
        "authorized_user" => {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", text("client_id")),
                ("client_secret", text("client_secret")),
                ("refresh_token", text("refresh_token")),
                ("scope", scope),
            ];
            try_post(text("token_uri"), &form).await
        }
        "external_account" => {
            let subject = subject_token(&file["credential_source"]).await;
            let form = [
                ("grant_type", EXCHANGE),
                ("audience", text("audience")),
                ("scope", scope),
                ("requested_token_type", ACCESS_TOKEN),
                ("subject_token", &subject),
                ("subject_token_type", text("subject_token_type")),
            ];
            try_post(text("token_url"), &form).await
        }
        other => panic!("{other} has no first request"),
    }
}

/// The access token of a credential file of any kind, after impersonation.
pub(crate) async fn token(file: &Value, scope: &str) -> String {
    let impersonation = file["service_account_impersonation_url"].as_str();
    let source = if file["source_credentials"].is_object() { &file["source_credentials"] } else { file };
    let wanted = if impersonation.is_some() { CLOUD_PLATFORM } else { scope };
    let granted = first_response(source, wanted).await;
    assert_eq!(granted.status, 200, "{granted:?}");
    let token = granted.json()["access_token"].as_str().unwrap().to_owned();
    let Some(url) = impersonation else { return token };
    let impersonated = impersonate(url, &token, &json!({ "scope": [scope] })).await;
    assert_eq!(impersonated.status, 200, "{impersonated:?}");
    impersonated.json()["accessToken"].as_str().unwrap().to_owned()
}

/// Calls `generateAccessToken`.
pub(crate) async fn impersonate(url: &str, token: &str, body: &Value) -> TestResponse {
    let request = http().post(url).bearer_auth(token).header("content-type", "application/json");
    send(request.body(body.to_string())).await.unwrap()
}

/// Reads the subject token of a `credential_source`.
pub(crate) async fn subject_token(source: &Value) -> String {
    if let Some(path) = source["file"].as_str() {
        return std::fs::read_to_string(path).unwrap();
    }
    let mut request = http().get(source["url"].as_str().unwrap());
    for (name, value) in source["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    let given = send(request).await.unwrap();
    assert_eq!(given.status, 200, "{given:?}");
    match source["format"]["subject_token_field_name"].as_str() {
        Some(member) => given.json()[member].as_str().unwrap().to_owned(),
        None => given.text,
    }
}

/// Lists a device's operations with a token.
pub(crate) async fn list(emulator: &Emulator, token: &str) -> TestResponse {
    let url = format!("{}/v1/{}/operations", emulator.url(), DEVICE);
    send(http().request(Method::GET, url).bearer_auth(token)).await.unwrap()
}
