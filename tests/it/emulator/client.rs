//! A client of the emulator that shares no code with the product.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use countermand_emulator::{Emulator, Settings};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};

pub(crate) const DEVICE: &str = "enterprises/LC01/devices/d1";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

pub(crate) const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
}

/// A response with its body.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl TestResponse {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.content_type, "application/json; charset=UTF-8", "{self:?}");
        serde_json::from_str(&self.text).unwrap()
    }

    /// The status and `error.status`. The response must be an error in Google's form.
    pub(crate) fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert_eq!(error["code"], self.status, "{self:?}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        (self.status, error["status"].as_str().unwrap().to_owned())
    }

    /// The reason in the error's `ErrorInfo`.
    pub(crate) fn reason(&self) -> String {
        let details = self.json()["error"]["details"].clone();
        let all = details.as_array().unwrap();
        let info = all.iter().find(|one| one["@type"] == "type.googleapis.com/google.rpc.ErrorInfo");
        info.unwrap()["reason"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn start(settings: Settings) -> Emulator {
    Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap()
}

impl Client {
    /// Creates a client and signs in.
    pub(crate) async fn new(emulator: &Emulator, protocol: Protocol) -> Self {
        // The call fails if another test has installed the provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy();
        let builder = match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_prior_knowledge(),
        };
        let http = builder.build().unwrap();
        let mut client = Self { http, url: emulator.url().to_owned(), token: String::new() };
        let granted = client.sign_in(&assertion(emulator.credentials().expose())).await;
        assert_eq!(granted.status, 200, "{granted:?}");
        let granted = granted.json();
        assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3600)));
        granted["access_token"].as_str().unwrap().clone_into(&mut client.token);
        client
    }

    pub(crate) async fn sign_in(&self, assertion: &str) -> TestResponse {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", assertion)
            .finish();
        let request = self.http.post(format!("{}/token", self.url));
        let form_type = "application/x-www-form-urlencoded";
        send(request.header("content-type", form_type).body(form)).await.unwrap()
    }

    /// A request to the API below `/v1/`, with the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/v1/{path}", self.url)).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        send(self.request(Method::GET, path)).await.unwrap()
    }

    pub(crate) async fn issue(&self, device: &str, command: &Value) -> TestResponse {
        let request = self.request(Method::POST, &format!("{device}:issueCommand"));
        let request = request.header("content-type", "application/json");
        send(request.body(command.to_string())).await.unwrap()
    }

    /// Issues a LOCK and returns the name of the operation.
    pub(crate) async fn lock(&self, device: &str) -> String {
        let issued = self.issue(device, &json!({ "type": "LOCK" })).await;
        assert_eq!(issued.status, 200, "{issued:?}");
        issued.json()["name"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn cancel(&self, name: &str) -> TestResponse {
        let request = self.request(Method::POST, &format!("{name}:cancel"));
        send(request.header("content-length", "0")).await.unwrap()
    }
}

pub(crate) async fn send(request: RequestBuilder) -> reqwest::Result<TestResponse> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let content_type = headers.get("content-type").map(|value| value.to_str().unwrap());
    let content_type = content_type.unwrap_or("").to_owned();
    Ok(TestResponse { status, content_type, headers, text: response.text().await? })
}

/// The assertion that requests a token for a credential file. It is padded, as yup-oauth2 pads it.
pub(crate) fn assertion(credentials: &str) -> String {
    assertion_for(credentials, "https://www.googleapis.com/auth/androidmanagement")
}

/// As [`assertion`], for another scope.
pub(crate) fn assertion_for(credentials: &str, scope: &str) -> String {
    let file: Value = serde_json::from_str(credentials).unwrap();
    let pem = file["private_key"].as_str().unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = KeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": file["client_email"], "aud": file["token_uri"], "iat": now, "exp": now + 3595,
        "scope": scope, "sub": null,
    });
    let header = json!({ "alg": "RS256", "typ": "JWT" });
    let signed = [header, claims].map(|part| URL_SAFE.encode(part.to_string())).join(".");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE.encode(signature))
}
