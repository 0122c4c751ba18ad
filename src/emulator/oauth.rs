//! OAuth's forms, which the token endpoint and the token exchange share: a form in, JSON out (RFC 6749
//! sections 3.2, 5.1 and 5.2).

use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::state::{State, lock};
use super::token::Grant;

/// Why there is no token: HTTP status, OAuth's `error`, and its `error_description`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) http: u16,
    pub(super) error: &'static str,
    pub(super) description: String,
}

/// The parameters of a request. They hold secrets: this type does not print.
pub(super) struct Form(Vec<(String, String)>);

impl Rejection {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { http: 400, error, description: description.into() }
    }

    pub(super) fn grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }

    pub(super) fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn with_status(self, http: u16) -> Self {
        Self { http, ..self }
    }

    pub(super) fn body(&self) -> Value {
        json!({ "error": self.error, "error_description": self.description })
    }
}

impl Form {
    /// Reads the body of a request, which must say that it is a form. No parameter may come twice; one
    /// without a value is one that is absent (RFC 6749 section 3.2).
    pub(super) fn read(head: &Parts, body: &[u8]) -> Result<Self, Rejection> {
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
            let description = "The body must be of the content type application/x-www-form-urlencoded.";
            return Err(Rejection::request(description));
        }
        Self::parse(body)
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Rejection> {
        let mut form: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body).filter(|(_, value)| !value.is_empty()) {
            if form.iter().any(|(known, _)| *known == name) {
                return Err(Rejection::request(format!(
                    "OAuth 2 parameters can only have a single value: {name}"
                )));
            }
            form.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(form))
    }

    pub(super) fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    pub(super) fn demand(&self, wanted: &str) -> Result<&str, Rejection> {
        let missing = || Rejection::request(format!("Missing required parameter: {wanted}"));
        self.get(wanted).ok_or_else(missing)
    }
}

/// Issues a token for as long as tokens are valid here: the answer of RFC 6749 section 5.1.
pub(super) fn issue(state: &State, grant: Grant) -> Result<Value, Rejection> {
    let lifetime = lock(&state.settings).token_lifetime;
    let token = lock(&state.tokens).issue(grant, lifetime, Instant::now()).map_err(|error| {
        tracing::error!(%error, "emulator: no access token could be made");
        Rejection::new("internal_failure", "Backend Error").with_status(500)
    })?;
    Ok(json!({ "access_token": token, "expires_in": lifetime.as_secs(), "token_type": "Bearer" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_there_once_or_not_at_all() {
        let form = Form::parse(b"a=1%3D&b=&c=3").ok().unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("d")), (Some("1="), None, None));
        assert_eq!(form.demand("c"), Ok("3"));
        let missing = form.demand("b").unwrap_err();
        assert_eq!((missing.http, missing.error), (400, "invalid_request"));
        assert!(missing.description.ends_with("parameter: b"), "{missing:?}");
        let twice = Form::parse(b"a=1&a=2").err().unwrap();
        assert_eq!(twice.error, "invalid_request");
    }
}
