//! HTTP around the API and the token endpoint: bodies in, answers out, and the faults between.

use std::error::Error;
use std::pin::pin;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{self, Parameters};
use super::assertion::{self, Rejection};
use super::refusal::{Refusal, page};
use super::route::{Call, NoCall};
use super::settings::{Fault, TokenEndpoint};
use super::state::{State, lock};
use super::token;

/// The most bytes that the body of a request may have.
const BODY_LIMIT: usize = 1024 * 1024;

/// The most bytes that are read of a body that is too long, before it is cut off.
const DRAIN_LIMIT: usize = 16 * BODY_LIMIT;

/// An answer with its whole body.
pub(super) type Answer = Response<Full<Bytes>>;

/// Answers a request; `None` when the connection is to be reset instead.
pub(super) async fn answer<B>(state: &State, request: Request<B>) -> Option<Answer>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (head, body) = request.into_parts();
    let call = match Call::of(&head.method, head.uri.path()) {
        Ok(call) => call,
        Err(NoCall::Unknown) => {
            let explanation = "The requested URL was not found on this server.";
            return Some(html(StatusCode::NOT_FOUND, explanation));
        }
        Err(NoCall::Malformed) => {
            let explanation = "Your client has issued a malformed or illegal request.";
            return Some(html(StatusCode::BAD_REQUEST, explanation));
        }
    };
    if lacks_length(&head) {
        let explanation = "POST requests require a Content-length header.";
        return Some(html(StatusCode::LENGTH_REQUIRED, explanation));
    }
    state.count(&call);
    let body = match read(body).await {
        Ok(Some(body)) => body,
        Ok(None) => return Some(refusal(&Refusal::too_large(BODY_LIMIT), true)),
        Err(_) => {
            let explanation = "Your client has issued a malformed or illegal request.";
            return Some(html(StatusCode::BAD_REQUEST, explanation));
        }
    };
    match call {
        Call::Token => Some(token_answer(state, &head, &body).await),
        call => api_answer(state, &call, &head, &body).await,
    }
}

/// Reads a body; `None` when it is longer than the limit. It is read to its end all the same, within reason:
/// a client that is still sending may not look at an answer.
async fn read<B>(body: B) -> Result<Option<Bytes>, Box<dyn Error + Send + Sync>>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let mut body = pin!(Limited::new(body, DRAIN_LIMIT));
    let (mut whole, mut size) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Err(error) if error.is::<LengthLimitError>() => return Ok(None),
            frame => frame?,
        };
        if let Ok(data) = frame.into_data() {
            size += data.remaining();
            if size <= BODY_LIMIT {
                whole.put(data);
            }
        }
    }
    Ok((size <= BODY_LIMIT).then(|| whole.freeze()))
}

/// Google's front end wants to know the length of a POST before it reads on. HTTP/2 frames tell it.
fn lacks_length(head: &Parts) -> bool {
    head.method == Method::POST
        && head.version < Version::HTTP_2
        && !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING)
}

async fn api_answer(state: &State, call: &Call, head: &Parts, body: &[u8]) -> Option<Answer> {
    let latency = lock(&state.settings).latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match api::fault(state) {
        Some(Fault::Reset) => return None,
        Some(fault) => return api::refusal_of(fault, state).map(|met| refusal(&met, true)),
        None => {}
    }
    let parameters = match Parameters::parse(call, head.uri.query().unwrap_or_default()) {
        Ok(parameters) => parameters,
        Err(wrong) => return Some(refusal(&wrong, true)),
    };
    Some(match api::carry_out(state, call, head, &parameters, body) {
        Ok(value) => json_answer(StatusCode::OK, &value, parameters.pretty),
        Err(refused) => refusal(&refused, parameters.pretty),
    })
}

async fn token_answer(state: &State, head: &Parts, body: &[u8]) -> Answer {
    let mode = *lock(&state.token_endpoint);
    let granted = match mode {
        TokenEndpoint::Healthy => grant(state, head, body),
        TokenEndpoint::Refusing => Err(Rejection::new("invalid_grant", "Invalid grant: account not found")),
        TokenEndpoint::Unavailable => {
            let down = Rejection::new("internal_failure", "Backend Error");
            Err(Rejection { http: 503, ..down })
        }
        TokenEndpoint::Hanging => std::future::pending().await,
    };
    let (status, value) = match granted {
        Ok(value) => (StatusCode::OK, value),
        Err(Rejection { http, error, description }) => (
            StatusCode::from_u16(http).unwrap_or(StatusCode::BAD_REQUEST),
            json!({ "error": error, "error_description": description }),
        ),
    };
    let mut answer = json_answer(status, &value, true);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Trades an assertion for an access token (RFC 7523, RFC 6749 section 5).
fn grant(state: &State, head: &Parts, body: &[u8]) -> Result<Value, Rejection> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
        let description = "The body must be of the content type application/x-www-form-urlencoded.";
        return Err(Rejection::new("invalid_request", description));
    }
    let assertion = token::assertion(body)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    assertion::check(&assertion, &state.account, &state.token_url, now)?;
    let lifetime = lock(&state.settings).token_lifetime;
    let token = lock(&state.tokens).issue(lifetime, Instant::now()).map_err(|error| {
        tracing::error!(%error, "emulator: no access token could be made");
        let failed = Rejection::new("internal_failure", "Backend Error");
        Rejection { http: 500, ..failed }
    })?;
    Ok(json!({
        "access_token": token, "expires_in": lifetime.as_secs(), "token_type": "Bearer",
    }))
}

fn refusal(refusal: &Refusal, pretty: bool) -> Answer {
    let mut answer = json_answer(refusal.http_status(), &refusal.body(), pretty);
    if let Some(challenge) = refusal.challenge {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    answer
}

fn json_answer(status: StatusCode, value: &Value, pretty: bool) -> Answer {
    let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
    with_type(status, text, "application/json; charset=UTF-8")
}

fn html(status: StatusCode, explanation: &str) -> Answer {
    with_type(status, page(status, explanation), "text/html; charset=UTF-8")
}

fn with_type(status: StatusCode, body: String, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
