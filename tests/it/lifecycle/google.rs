//! A fake Google: a token endpoint, the API's `cancel`, and a `get` whose operation is never done. A test sets their
//! responses, holds responses back, and reads the recorded requests.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::support::process::LIMIT;

pub(crate) struct Google {
    pub(crate) url: String,
    controls: Controls,
    serving: JoinHandle<()>,
}

/// The settings of a test, and the recorded requests.
#[derive(Clone)]
struct Controls {
    token: watch::Sender<Token>,
    cancel: watch::Sender<(u16, String)>,
    held: watch::Sender<bool>,
    seen: watch::Sender<Seen>,
}

/// The response of the token endpoint.
#[derive(Clone)]
pub(crate) enum Token {
    /// A token with this lifetime in seconds.
    Granted(u64),
    /// A status and a body. In the body, `{assertion}` is replaced by the assertion of the request, `{its begin}` by
    /// its first 60 characters, and `{folded}` by pieces of it with spaces between.
    Other(u16, &'static str),
    /// No response until the test sets another one.
    Held,
}

/// The requests and tokens so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// The assertion of each token request.
    pub(crate) assertions: Vec<String>,
    /// The issued access tokens.
    pub(crate) tokens: Vec<String>,
    /// The `authorization` header of each cancel.
    pub(crate) authorizations: Vec<String>,
    /// The number of cancels that were answered.
    pub(crate) answered: usize,
}

impl Google {
    /// Starts a server that issues tokens with a lifetime of an hour, and accepts every cancel.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let controls = Controls {
            token: watch::Sender::new(Token::Granted(3600)),
            cancel: watch::Sender::new((200, "{}".to_owned())),
            held: watch::Sender::new(false),
            seen: watch::Sender::new(Seen::default()),
        };
        let routes = Router::new().route("/token", post(token)).route("/v1/{*name}", post(cancel).get(get));
        let routes = routes.with_state(controls.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, controls, serving }
    }

    pub(crate) fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    pub(crate) fn answer_token(&self, response: Token) {
        self.controls.token.send_replace(response);
    }

    /// Sets the response to every later cancel. In the body, `{authorization}` is replaced by the header of the
    /// request, and `{in unicode}` by its JSON escapes.
    pub(crate) fn answer_cancel(&self, status: u16, body: &str) {
        self.controls.cancel.send_replace((status, body.to_owned()));
    }

    /// Holds the response to every cancel until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.controls.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.controls.held.send_replace(false);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.controls.seen.borrow().clone()
    }

    /// Waits until the recorded requests match.
    pub(crate) async fn saw(&self, wanted: impl FnMut(&Seen) -> bool) {
        let mut seen = self.controls.seen.subscribe();
        timeout(LIMIT, seen.wait_for(wanted)).await.expect("the requests match").unwrap();
    }

    /// Waits until this number of cancels has arrived.
    pub(crate) async fn arrived(&self, cancels: usize) {
        self.saw(|seen| seen.authorizations.len() >= cancels).await;
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn token(State(controls): State<Controls>, form: String) -> (StatusCode, String) {
    let (_, assertion) = form_urlencoded::parse(form.as_bytes()).find(|(key, _)| key == "assertion").unwrap();
    controls.seen.send_modify(|seen| seen.assertions.push(assertion.clone().into_owned()));
    let mut responses = controls.token.subscribe();
    let response = responses.wait_for(|response| !matches!(response, Token::Held)).await.unwrap().clone();
    match response {
        Token::Granted(seconds) => {
            let token: String = (0..96).map(|_| fastrand::alphanumeric()).collect();
            let token = format!("ya29.c.{token}");
            controls.seen.send_modify(|seen| seen.tokens.push(token.clone()));
            let body = json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"});
            (StatusCode::OK, body.to_string())
        }
        Token::Other(status, body) => {
            let folded: Vec<_> = assertion.as_bytes().chunks(30).map(String::from_utf8_lossy).collect();
            let body = body.replace("{assertion}", &assertion).replace("{its begin}", &assertion[..60]);
            let body = body.replace("{folded}", &folded.join(" "));
            (StatusCode::from_u16(status).unwrap(), body)
        }
        Token::Held => unreachable!("excluded above"),
    }
}

async fn get(Path(name): Path<String>) -> String {
    json!({"name": name, "done": false}).to_string()
}

async fn cancel(State(controls): State<Controls>, headers: HeaderMap) -> (StatusCode, String) {
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    controls.seen.send_modify(|seen| seen.authorizations.push(authorization.clone()));
    let mut held = controls.held.subscribe();
    held.wait_for(|held| !held).await.unwrap();
    // axum drops this future when the client closes the connection.
    controls.seen.send_modify(|seen| seen.answered += 1);
    let (status, body) = controls.cancel.borrow().clone();
    let bytes = || authorization.bytes();
    let body = body
        .replace("{authorization}", &authorization)
        .replace("{in unicode}", &bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>());
    (StatusCode::from_u16(status).unwrap(), body)
}
