//! A test server with scripted replies that records requests, and credentials that name the server.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use axum::{Router, extract::State, response::Response};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use super::{CredentialFileError, Definition, FetchError, LoadedCredential, Origin, Surroundings, Token};
use crate::http_client::{Authorities, ProxySettings};

/// A URL that no request may reach.
pub(super) const UNREACHABLE: &str = "http://127.0.0.1:1";

/// The impersonated account, and the path of its `generateAccessToken`.
pub(super) const TARGET: &str = "target@p.iam.gserviceaccount.com";
pub(super) const TARGET_PATH: &str =
    "/v1/projects/-/serviceAccounts/target@p.iam.gserviceaccount.com:generateAccessToken";

/// The secrets of a person's login. They do not resemble Google's, so that only the redactor can remove them.
pub(super) const CLIENT_SECRET: &str = "client~secret";
pub(super) const REFRESH_TOKEN: &str = "refresh~token";

/// A recorded request.
pub(super) struct Seen {
    pub(super) method: Method,
    /// The path and the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// A server on loopback.
pub(super) struct Server {
    pub(super) url: String,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<Seen>>,
}

/// A scripted reply.
#[derive(Clone)]
pub(super) struct Reply(StatusCode, Vec<(&'static str, String)>, String);

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self(StatusCode::from_u16(status).expect("a status"), Vec::new(), body.into())
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.1.push((name, value.to_owned()));
        self
    }

    /// The token endpoint's reply with a token that is valid for an hour.
    pub(super) fn token(secret: &str) -> Self {
        let body = json!({"access_token": secret, "expires_in": 3600, "token_type": "Bearer"});
        Self::new(200, body.to_string())
    }

    /// The reply of `generateAccessToken` with a token that is valid for half an hour.
    pub(super) fn generated(secret: &str) -> Self {
        let ends = std::time::SystemTime::now() + std::time::Duration::from_secs(1800);
        let ends = humantime::format_rfc3339_seconds(ends).to_string();
        Self::new(200, json!({"accessToken": secret, "expireTime": ends}).to_string())
    }
}

impl Server {
    pub(super) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let script =
            Arc::new(Script { replies: Mutex::new(replies.into_iter().collect()), ..Script::default() });
        let routes = Router::new().fallback(reply).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, script }
    }

    /// The recorded requests. Fails when replies are left over.
    pub(super) fn seen(&self) -> Vec<Seen> {
        assert_eq!(self.script.replies.lock().expect("not poisoned").len(), 0, "replies left over");
        std::mem::take(&mut *self.script.seen.lock().expect("not poisoned"))
    }
}

async fn reply(State(script): State<Arc<Script>>, request: Request<axum::body::Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    script.seen.lock().expect("not poisoned").push(Seen {
        method: head.method,
        path: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    });
    let next = script.replies.lock().expect("not poisoned").pop_front();
    let Reply(status, headers, body) = next.unwrap_or_else(|| Reply::new(501, "not in the script"));
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body.into()).expect("a response")
}

impl Seen {
    /// The fields of a form, in their order.
    pub(super) fn form(&self) -> Vec<(String, String)> {
        assert_eq!(self.headers["content-type"], "application/x-www-form-urlencoded");
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// A service account's key file, whose tokens come from `{url}/token`.
pub(super) fn service_account(url: &str) -> Value {
    // All tests share one key, because the generation of an RSA key is slow.
    static KEY: OnceLock<String> = OnceLock::new();
    let key = KEY.get_or_init(|| KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key").serialize_pem());
    json!({
        "type": "service_account",
        "client_email": "robot@p.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": key,
        "token_uri": format!("{url}/token"),
    })
}

/// A person's login, whose tokens come from `{url}/token`.
pub(super) fn authorized_user(url: &str) -> Value {
    json!({
        "type": "authorized_user",
        "account": "",
        "client_id": "gcloud.apps.googleusercontent.com",
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
        "token_uri": format!("{url}/token"),
    })
}

/// A workload whose subject token is in `file`, and exchanged at `{url}/sts`.
pub(super) fn external_account(url: &str, file: &Path) -> Value {
    json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k8s",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{url}/sts"),
        "credential_source": {"file": file},
    })
}

/// A temporary file with this content, deleted on drop.
pub(super) fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(&file, content).expect("written");
    file
}

/// A credential loaded from a file with this content.
pub(super) fn load(
    credential: &Value,
    impersonate: Option<&str>,
) -> Result<LoadedCredential, CredentialFileError> {
    let file = file(&credential.to_string());
    load_from(Origin::File(PathBuf::from(file.path())), impersonate)
}

pub(super) fn load_from(
    origin: Origin,
    impersonate: Option<&str>,
) -> Result<LoadedCredential, CredentialFileError> {
    Definition { origin, impersonate: impersonate.map(str::to_owned), project: None }.load()
}

/// [`Surroundings`] with IAM Credentials at `iam`.
pub(super) fn surroundings(iam: &str) -> Arc<Surroundings> {
    let iam = Url::parse(iam).expect("a URL");
    Arc::new(Surroundings::new(Authorities::public(), ProxySettings::default(), iam))
}

/// Fetches a token with a valid credential file.
pub(super) async fn fetch(credential: &Value) -> Result<Token, FetchError> {
    load(credential, None).expect("a credential").fetch(&surroundings(UNREACHABLE)).await
}

/// The error of an invalid credential file. Checks that it is one line without a secret.
pub(super) fn load_error(credential: &Value) -> String {
    let error = load(credential, None).expect_err("invalid").to_string();
    assert!(!error.contains('\n') && !error.contains('~'), "{error}");
    error
}

/// The value of the token's header.
pub(super) fn bearer(token: &Token) -> String {
    String::from_utf8_lossy(token.header().as_bytes()).into_owned()
}
