//! Google as a test steers it: a token endpoint and the API's `cancel`, which hold their answers back when
//! told so, and remember what they were asked and what they gave away.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::support::process::LIMIT;

pub(crate) struct Google {
    pub(crate) url: String,
    steering: Steering,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Steering {
    token: watch::Sender<Token>,
    cancel: watch::Sender<(u16, String)>,
    held: watch::Sender<bool>,
    seen: watch::Sender<Seen>,
}

/// How the token endpoint answers.
#[derive(Clone)]
pub(crate) enum Token {
    /// A token that is valid for so many seconds.
    Granted(u64),
    /// A status and a body, in which `{assertion}` stands for the one that came, `{its begin}` for as much of
    /// it as some endpoints quote, and `{folded}` for lines of it.
    Other(u16, &'static str),
    /// Not, until it is told something else.
    Held,
}

/// What has passed so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// The assertions by which tokens were asked for.
    pub(crate) assertions: Vec<String>,
    /// The access tokens that were given away.
    pub(crate) tokens: Vec<String>,
    /// The `authorization` of each cancel.
    pub(crate) authorizations: Vec<String>,
    /// How many cancels were answered to the end.
    pub(crate) answered: usize,
}

impl Google {
    /// Starts one that gives tokens of an hour and accepts every cancel.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let steering = Steering {
            token: watch::Sender::new(Token::Granted(3600)),
            cancel: watch::Sender::new((200, "{}".to_owned())),
            held: watch::Sender::new(false),
            seen: watch::Sender::new(Seen::default()),
        };
        let routes = Router::new().route("/token", post(token)).route("/v1/{*name}", post(cancel));
        let routes = routes.with_state(steering.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, steering, serving }
    }

    pub(crate) fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    pub(crate) fn answer_token(&self, answer: Token) {
        self.steering.token.send_replace(answer);
    }

    /// The answer to every cancel from now on; in the body, `{authorization}` stands for the one that came,
    /// `{in unicode}`, `{in percent}` and `{in base64}` for spellings of it.
    pub(crate) fn answer_cancel(&self, status: u16, body: &str) {
        self.steering.cancel.send_replace((status, body.to_owned()));
    }

    /// Holds every cancel back until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.steering.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.steering.held.send_replace(false);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.steering.seen.borrow().clone()
    }

    /// Waits for what was seen to be so.
    pub(crate) async fn saw(&self, wanted: impl FnMut(&Seen) -> bool) {
        let mut seen = self.steering.seen.subscribe();
        timeout(LIMIT, seen.wait_for(wanted)).await.expect("never seen").unwrap();
    }

    /// Waits for so many cancels to have arrived.
    pub(crate) async fn arrived(&self, cancels: usize) {
        self.saw(|seen| seen.authorizations.len() >= cancels).await;
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn token(State(steering): State<Steering>, form: String) -> (StatusCode, String) {
    let (_, assertion) = form_urlencoded::parse(form.as_bytes()).find(|(key, _)| key == "assertion").unwrap();
    steering.seen.send_modify(|seen| seen.assertions.push(assertion.clone().into_owned()));
    let mut told = steering.token.subscribe();
    let answer = told.wait_for(|answer| !matches!(answer, Token::Held)).await.unwrap().clone();
    match answer {
        Token::Granted(seconds) => {
            let token: String = (0..96).map(|_| fastrand::alphanumeric()).collect();
            let token = format!("ya29.c.{token}");
            steering.seen.send_modify(|seen| seen.tokens.push(token.clone()));
            let body = json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"});
            (StatusCode::OK, body.to_string())
        }
        Token::Other(status, body) => {
            let folded: Vec<_> = assertion.as_bytes().chunks(30).map(String::from_utf8_lossy).collect();
            let body = body.replace("{assertion}", &assertion).replace("{its begin}", &assertion[..60]);
            let body = body.replace("{folded}", &folded.join(" "));
            (StatusCode::from_u16(status).unwrap(), body)
        }
        Token::Held => unreachable!("waited for"),
    }
}

async fn cancel(State(steering): State<Steering>, headers: HeaderMap) -> (StatusCode, String) {
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    steering.seen.send_modify(|seen| seen.authorizations.push(authorization.clone()));
    let mut held = steering.held.subscribe();
    held.wait_for(|held| !held).await.unwrap();
    // Not reached when whoever asked has closed the connection meanwhile.
    steering.seen.send_modify(|seen| seen.answered += 1);
    let (status, body) = steering.cancel.borrow().clone();
    let bytes = || authorization.bytes();
    let body = body
        .replace("{authorization}", &authorization)
        .replace("{in unicode}", &bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>())
        .replace("{in percent}", &bytes().map(|byte| format!("%{byte:02x}")).collect::<String>())
        .replace("{in base64}", &BASE64_STANDARD.encode(&authorization));
    (StatusCode::from_u16(status).unwrap(), body)
}
