//! The endpoints that give tokens, and what their condition makes of their answers.

use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer, Payload};
use super::ask::Ask;
use super::condition::{Condition, Endpoint};
use super::oauth::Rejection;
use super::refusal::Refusal;
use super::state::{State, lock};
use super::{grant, iam, metadata, sts, subject};

/// What an endpoint answers when it is healthy.
pub(super) enum Reply {
    /// JSON that has a token in it.
    Token(Value),
    Other(Answer),
}

impl From<Result<Value, Rejection>> for Reply {
    fn from(granted: Result<Value, Rejection>) -> Self {
        match granted {
            Ok(value) => Self::Token(value),
            Err(rejection) => Self::Other(rejected(&rejection)),
        }
    }
}

impl From<Result<Value, Refusal>> for Reply {
    fn from(granted: Result<Value, Refusal>) -> Self {
        match granted {
            Ok(value) => Self::Token(value),
            Err(refusal) => Self::Other(answer::refusal(&refusal, true)),
        }
    }
}

/// Answers a request; `None` when the connection is to be reset instead.
pub(super) async fn answer(state: &State, ask: &Ask, head: &Parts, body: &[u8]) -> Option<Answer> {
    let endpoint = ask.endpoint();
    let condition = lock(&state.settings).endpoints.of(endpoint);
    match condition {
        Condition::Refusing => return Some(refusing(endpoint)),
        Condition::Unavailable => return Some(unavailable(endpoint)),
        Condition::Failing => return Some(answer::refusal(&Refusal::internal(), true)),
        Condition::Hanging => std::future::pending().await,
        Condition::Slow(time) => tokio::time::sleep(time).await,
        Condition::Html => return Some(answer::html(StatusCode::OK, "Sign in to this network first.")),
        Condition::Reset => return None,
        _ => {}
    }
    let reply = match ask {
        Ask::Token => grant::grant(state, head, body).into(),
        Ask::Sts => sts::exchange(state, head, body).into(),
        Ask::SubjectToken => subject::answer(state, head),
        Ask::Metadata => metadata::answer(state, head),
        Ask::GenerateAccessToken(account) => iam::generate(state, account, head, body).into(),
    };
    let answer = match reply {
        Reply::Token(mut value) => {
            spoil(&mut value, condition);
            granted(endpoint, &value)
        }
        Reply::Other(answer) => answer,
    };
    let truncated = condition == Condition::Truncated;
    Some(if truncated { answer.map(Payload::broken) } else { answer })
}

/// Takes out of a token's JSON, or changes in it, what the condition says.
fn spoil(value: &mut Value, condition: Condition) {
    let Some(members) = value.as_object_mut() else { return };
    let (seconds, date) = match condition {
        Condition::WithoutToken => {
            members.retain(|name, _| !matches!(&**name, "access_token" | "accessToken" | subject::MEMBER));
            return;
        }
        Condition::LifetimeAbsent => {
            members.retain(|name, _| !matches!(&**name, "expires_in" | "expireTime"));
            return;
        }
        Condition::LifetimeNegative => (json!(-1), json!("1970-01-01T00:00:00Z")),
        Condition::LifetimeAbsurd => (json!(u64::MAX), json!("9999-12-31T23:59:59Z")),
        _ => return,
    };
    for (name, value) in [("expires_in", seconds), ("expireTime", date)] {
        if let Some(lifetime) = members.get_mut(name) {
            *lifetime = value;
        }
    }
}

/// A token's JSON as the endpoint sends it.
fn granted(endpoint: Endpoint, value: &Value) -> Answer {
    match endpoint {
        Endpoint::Token | Endpoint::Sts => not_stored(answer::json(StatusCode::OK, value, true)),
        Endpoint::Iam => answer::json(StatusCode::OK, value, true),
        Endpoint::SubjectToken => subject::given(value),
        Endpoint::Metadata => metadata::json(value),
    }
}

fn refusing(endpoint: Endpoint) -> Answer {
    match endpoint {
        Endpoint::Token => rejected(&Rejection::grant("Invalid grant: account not found")),
        Endpoint::Sts => rejected(&Rejection::grant(sts::REJECTED)),
        Endpoint::SubjectToken => subject::refused(StatusCode::FORBIDDEN),
        Endpoint::Metadata => metadata::page(StatusCode::NOT_FOUND, metadata::NOT_FOUND),
        Endpoint::Iam => answer::refusal(&Refusal::may_not_impersonate(), true),
    }
}

fn unavailable(endpoint: Endpoint) -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match endpoint {
        Endpoint::Token | Endpoint::Sts => {
            rejected(&Rejection::new("internal_failure", "Backend Error").with_status(status.as_u16()))
        }
        Endpoint::SubjectToken => subject::refused(status),
        Endpoint::Metadata => metadata::page(status, "The service is currently unavailable."),
        Endpoint::Iam => answer::refusal(&Refusal::unavailable(), true),
    }
}

fn rejected(rejection: &Rejection) -> Answer {
    let status = StatusCode::from_u16(rejection.http).unwrap_or(StatusCode::BAD_REQUEST);
    not_stored(answer::json(status, &rejection.body(), true))
}

/// As RFC 6749 section 5.1 demands.
fn not_stored(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
