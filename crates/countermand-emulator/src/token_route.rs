//! The endpoints that issue tokens: their paths, and the faults that a test injects into their responses. At Google,
//! each endpoint has the same path on its own host.

use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::endpoint::{Condition, Endpoint};
use crate::response::{self, HttpResponse, Payload};
use crate::route::{RouteError, decode};
use crate::shared::{Shared, lock};
use crate::token_endpoint::OAuthError;
use crate::{iam, metadata, sts, subject_token, token_endpoint};

/// A request to an endpoint that issues tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenRoute {
    TokenEndpoint,
    Sts,
    SubjectToken,
    /// The metadata server, which reads the path itself.
    Metadata,
    /// `generateAccessToken` of the account with this address.
    GenerateAccessToken(String),
}

/// The response of a healthy endpoint.
pub(crate) enum TokenResponse {
    /// JSON with a token.
    Token(Value),
    Other(HttpResponse),
}

impl TokenRoute {
    /// The route of a request; `None` when the path is not an endpoint's.
    pub(crate) fn find(method: &Method, path: &str) -> Result<Option<Self>, RouteError> {
        Ok(match (method, path) {
            (&Method::POST, "/token") => Some(Self::TokenEndpoint),
            (&Method::POST, "/v1/token") => Some(Self::Sts),
            (&Method::POST, path) => impersonated(path)?.map(Self::GenerateAccessToken),
            (&Method::GET, "/subject-token") => Some(Self::SubjectToken),
            (&Method::GET, "/") => Some(Self::Metadata),
            (&Method::GET, path) if path.starts_with("/computeMetadata/") => Some(Self::Metadata),
            _ => None,
        })
    }

    fn endpoint(&self) -> Endpoint {
        match self {
            Self::TokenEndpoint => Endpoint::Token,
            Self::Sts => Endpoint::Sts,
            Self::SubjectToken => Endpoint::SubjectToken,
            Self::Metadata => Endpoint::Metadata,
            Self::GenerateAccessToken(_) => Endpoint::Iam,
        }
    }
}

/// The account in the path of `generateAccessToken`, whose project must be the wildcard. `None` for any other path.
fn impersonated(path: &str) -> Result<Option<String>, RouteError> {
    let Some(rest) = path.strip_prefix("/v1/projects/-/serviceAccounts/") else { return Ok(None) };
    let rest = decode(rest).ok_or(RouteError::Malformed)?;
    let account = rest.strip_suffix(":generateAccessToken");
    let account = account.filter(|account| !account.is_empty() && !account.contains('/'));
    Ok(account.map(str::to_owned))
}

/// Handles a request. Returns `None` to reset the connection.
pub(crate) async fn respond(
    shared: &Shared,
    route: &TokenRoute,
    head: &Parts,
    body: &[u8],
) -> Option<HttpResponse> {
    let endpoint = route.endpoint();
    let condition = lock(&shared.settings).endpoints.get(endpoint);
    match condition {
        Condition::Refusing => return Some(refusing(endpoint)),
        Condition::Unavailable => return Some(unavailable(endpoint)),
        Condition::Failing => return Some(response::api_error(&ApiError::internal())),
        Condition::Hanging => std::future::pending().await,
        Condition::Slow(delay) => tokio::time::sleep(delay).await,
        Condition::Html => return Some(response::html(StatusCode::OK, "Sign in to this network first.")),
        Condition::Reset => return None,
        _ => {}
    }
    let issued = match route {
        TokenRoute::TokenEndpoint => oauth(token_endpoint::grant(shared, head, body)),
        TokenRoute::Sts => oauth(sts::exchange(shared, head, body)),
        TokenRoute::SubjectToken => subject_token::respond(shared, head),
        TokenRoute::Metadata => metadata::respond(shared, head),
        TokenRoute::GenerateAccessToken(account) => match iam::generate(shared, account, head, body) {
            Ok(value) => TokenResponse::Token(value),
            Err(error) => TokenResponse::Other(response::api_error(&error)),
        },
    };
    let response = match issued {
        TokenResponse::Token(mut value) => {
            corrupt(&mut value, condition);
            token_response(endpoint, &value)
        }
        TokenResponse::Other(response) => response,
    };
    Some(if condition == Condition::Truncated { response.map(Payload::truncated) } else { response })
}

/// Removes or replaces members of a token's JSON according to the condition.
fn corrupt(value: &mut Value, condition: Condition) {
    let Some(members) = value.as_object_mut() else { return };
    let (seconds, date) = match condition {
        Condition::WithoutToken => {
            let is_token =
                |name: &str| matches!(name, "access_token" | "accessToken" | subject_token::MEMBER);
            members.retain(|name, _| !is_token(name));
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

/// A token's JSON in the form of the endpoint.
fn token_response(endpoint: Endpoint, value: &Value) -> HttpResponse {
    match endpoint {
        Endpoint::Token | Endpoint::Sts => not_stored(response::json(StatusCode::OK, value)),
        Endpoint::Iam => response::json(StatusCode::OK, value),
        Endpoint::SubjectToken => subject_token::token_response(value),
        Endpoint::Metadata => metadata::json(value),
    }
}

fn refusing(endpoint: Endpoint) -> HttpResponse {
    match endpoint {
        Endpoint::Token => oauth_error(&OAuthError::invalid_grant("Invalid grant: account not found")),
        Endpoint::Sts => oauth_error(&OAuthError::invalid_grant(sts::REJECTED)),
        Endpoint::SubjectToken => subject_token::error(StatusCode::FORBIDDEN),
        Endpoint::Metadata => metadata::not_found(),
        Endpoint::Iam => response::api_error(&ApiError::may_not_impersonate()),
    }
}

fn unavailable(endpoint: Endpoint) -> HttpResponse {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match endpoint {
        Endpoint::Token | Endpoint::Sts => {
            oauth_error(&OAuthError::new("internal_failure", "Backend Error").with_status(status))
        }
        Endpoint::SubjectToken => subject_token::error(status),
        Endpoint::Metadata => metadata::page(status, "The service is currently unavailable."),
        Endpoint::Iam => response::api_error(&ApiError::unavailable()),
    }
}

fn oauth(result: Result<Value, OAuthError>) -> TokenResponse {
    match result {
        Ok(value) => TokenResponse::Token(value),
        Err(error) => TokenResponse::Other(oauth_error(&error)),
    }
}

fn oauth_error(error: &OAuthError) -> HttpResponse {
    not_stored(response::json(error.http, &error.body()))
}

/// Forbids caching, as RFC 6749 section 5.1 requires.
fn not_stored(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_its_path() {
        let route = |method, path: &str| TokenRoute::find(&method, path).unwrap();
        assert_eq!(route(Method::POST, "/token"), Some(TokenRoute::TokenEndpoint));
        assert_eq!(route(Method::POST, "/v1/token"), Some(TokenRoute::Sts));
        assert_eq!(route(Method::GET, "/subject-token"), Some(TokenRoute::SubjectToken));
        for path in ["/", "/computeMetadata/", "/computeMetadata/v1/instance/service-accounts/"] {
            assert_eq!(route(Method::GET, path), Some(TokenRoute::Metadata), "{path}");
        }
        let accounts = "/v1/projects/-/serviceAccounts";
        for name in ["a@b.iam:generateAccessToken", "a%40b.iam%3AgenerateAccessToken"] {
            let wanted = Some(TokenRoute::GenerateAccessToken("a@b.iam".to_owned()));
            assert_eq!(route(Method::POST, &format!("{accounts}/{name}")), wanted);
        }
        assert_eq!(route(Method::GET, "/v1/enterprises/LC01/devices/d1/operations"), None);
    }
}
