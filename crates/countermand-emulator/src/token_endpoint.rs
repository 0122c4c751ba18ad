//! The token endpoint: an access token for a service account's assertion (RFC 7523) or for a person's refresh token
//! (RFC 6749 section 6). Its forms and errors are also those of the token exchange (RFC 6749 sections 3.2, 5.1 and
//! 5.2).
//!
//! Error texts are those of Google's endpoint, as its documents and its users quote them.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::access_token::{Scopes, TokenGrant};
use crate::account::PERSON_EMAIL;
use crate::assertion;
use crate::key::random_text;
use crate::shared::{Shared, lock};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// An error of OAuth: HTTP status, `error`, and `error_description`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OAuthError {
    pub(crate) http: StatusCode,
    pub(crate) error: &'static str,
    pub(crate) description: String,
}

/// The parameters of a request. They hold secrets, so this type has no Debug.
pub(crate) struct Form(Vec<(String, String)>);

/// The person's credentials, including gcloud's OAuth client. They are secret, so this type has no Debug.
pub(crate) struct UserCredentials {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) refresh_token: String,
}

impl OAuthError {
    pub(crate) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { http: StatusCode::BAD_REQUEST, error, description: description.into() }
    }

    pub(crate) fn invalid_grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }

    pub(crate) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(crate) fn unsupported_grant_type(grant: &str) -> Self {
        Self::new("unsupported_grant_type", format!("Invalid grant_type: {grant}"))
    }

    pub(crate) fn with_status(self, http: StatusCode) -> Self {
        Self { http, ..self }
    }

    pub(crate) fn body(&self) -> Value {
        json!({ "error": self.error, "error_description": self.description })
    }
}

impl Form {
    /// Reads a form from the body of a request. A parameter may occur once. A parameter without a value counts as
    /// absent (RFC 6749 section 3.2).
    pub(crate) fn read(head: &Parts, body: &[u8]) -> Result<Self, OAuthError> {
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
            let description = "The body must be of the content type application/x-www-form-urlencoded.";
            return Err(OAuthError::invalid_request(description));
        }
        Self::parse(body)
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let mut form: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body).filter(|(_, value)| !value.is_empty()) {
            if form.iter().any(|(seen, _)| *seen == name) {
                let description = format!("OAuth 2 parameters can only have a single value: {name}");
                return Err(OAuthError::invalid_request(description));
            }
            form.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(form))
    }

    pub(crate) fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    pub(crate) fn require(&self, wanted: &str) -> Result<&str, OAuthError> {
        let missing = || OAuthError::invalid_request(format!("Missing required parameter: {wanted}"));
        self.get(wanted).ok_or_else(missing)
    }
}

impl UserCredentials {
    pub(crate) fn generate() -> io::Result<Self> {
        Ok(Self {
            client_id: "100000000000-emulator.apps.googleusercontent.com".to_owned(),
            client_secret: format!("GOCSPX-{}", random_text::<21>()?),
            refresh_token: format!("1//0{}", random_text::<48>()?),
        })
    }
}

/// Handles a request for a token.
pub(crate) fn grant(shared: &Shared, head: &Parts, body: &[u8]) -> Result<Value, OAuthError> {
    let form = Form::read(head, body)?;
    match form.require("grant_type")? {
        JWT_BEARER => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let assertion = form.require("assertion")?;
            let grant = assertion::check(assertion, &lock(&shared.accounts), &shared.token_url(), now)?;
            issue(shared, grant)
        }
        "refresh_token" => {
            let disabled = lock(&shared.accounts).is_disabled(PERSON_EMAIL);
            let scopes = refresh(&form, &shared.user, disabled)?;
            let names = scopes.names().join(" ");
            let mut issued = issue(shared, TokenGrant { principal: PERSON_EMAIL.into(), scopes })?;
            issued["scope"] = names.into();
            Ok(issued)
        }
        other => Err(OAuthError::unsupported_grant_type(other)),
    }
}

/// Issues a token with the lifetime of the settings, in the form of RFC 6749 section 5.1.
pub(crate) fn issue(shared: &Shared, grant: TokenGrant) -> Result<Value, OAuthError> {
    let lifetime = lock(&shared.settings).token_lifetime;
    let token = lock(&shared.tokens).issue(grant, lifetime, Instant::now()).map_err(|error| {
        tracing::error!(%error, "failed to generate an access token");
        OAuthError::new("internal_failure", "Backend Error").with_status(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    Ok(json!({ "access_token": token, "expires_in": lifetime.as_secs(), "token_type": "Bearer" }))
}

/// The scopes of a refreshed token: those in the request, or all that the person consented to.
fn refresh(form: &Form, user: &UserCredentials, disabled: bool) -> Result<Scopes, OAuthError> {
    let invalid_client =
        |description| OAuthError::new("invalid_client", description).with_status(StatusCode::UNAUTHORIZED);
    let no_client = || OAuthError::invalid_request("Could not determine client ID from request.");
    if form.get("client_id").ok_or_else(no_client)? != user.client_id {
        return Err(invalid_client("The OAuth client was not found."));
    }
    let no_secret = || OAuthError::invalid_request("client_secret is missing.");
    if form.get("client_secret").ok_or_else(no_secret)? != user.client_secret {
        return Err(invalid_client("The provided client secret is invalid."));
    }
    if form.require("refresh_token")? != user.refresh_token {
        return Err(OAuthError::invalid_grant("Bad Request"));
    }
    if disabled {
        return Err(OAuthError::invalid_grant("Token has been expired or revoked."));
    }
    let Some(scope) = form.get("scope") else { return Ok(Scopes::consented()) };
    let invalid = || OAuthError::new("invalid_scope", "Some requested scopes were invalid.");
    Scopes::parse(scope).filter(|scopes| scopes.is_subset_of(&Scopes::consented())).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_token::{ANDROID_MANAGEMENT, IAM};

    const VALID: &str = "client_id=c&client_secret=s&refresh_token=r";

    fn refreshed(form: &str, disabled: bool) -> Result<Scopes, (u16, &'static str, String)> {
        let [client_id, client_secret, refresh_token] = ["c", "s", "r"].map(str::to_owned);
        let form = Form::parse(form.as_bytes()).ok().unwrap();
        let user = UserCredentials { client_id, client_secret, refresh_token };
        refresh(&form, &user, disabled).map_err(|error| (error.http.as_u16(), error.error, error.description))
    }

    #[test]
    fn a_parameter_occurs_at_most_once() {
        let form = Form::parse(b"a=1%3D&b=&c=3").ok().unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("d")), (Some("1="), None, None));
        assert_eq!(form.require("c"), Ok("3"));
        let missing = form.require("b").unwrap_err();
        assert_eq!((missing.http.as_u16(), missing.error), (400, "invalid_request"));
        assert!(missing.description.ends_with("parameter: b"), "{missing:?}");
        let twice = Form::parse(b"a=1&a=2").err().unwrap();
        assert_eq!(twice.error, "invalid_request");
    }

    #[test]
    fn a_refresh_returns_the_consented_scopes_or_a_part_of_them() {
        assert_eq!(refreshed(VALID, false), Ok(Scopes::consented()));
        let part = refreshed(&format!("{VALID}&scope={ANDROID_MANAGEMENT}+openid"), false).unwrap();
        assert_eq!(part.names(), [ANDROID_MANAGEMENT, "openid"]);
        for more in [IAM, "nonesuch", " "] {
            let rejected = refreshed(&format!("{VALID}&scope={more}"), false).unwrap_err();
            assert_eq!((rejected.0, rejected.1), (400, "invalid_scope"), "{more}");
        }
    }

    #[test]
    fn each_parameter_is_checked() {
        for (form, http, error, words) in [
            ("client_secret=s&refresh_token=r", 400, "invalid_request", "client ID"),
            ("client_id=x&client_secret=s&refresh_token=r", 401, "invalid_client", "not found"),
            ("client_id=c&refresh_token=r", 400, "invalid_request", "client_secret is missing"),
            ("client_id=c&client_secret=x&refresh_token=r", 401, "invalid_client", "secret is invalid"),
            ("client_id=c&client_secret=s", 400, "invalid_request", "refresh_token"),
            ("client_id=c&client_secret=s&refresh_token=x", 400, "invalid_grant", "Bad Request"),
        ] {
            let rejected = refreshed(form, false).unwrap_err();
            assert_eq!((rejected.0, rejected.1), (http, error), "{form}");
            assert!(rejected.2.contains(words), "{form}: {}", rejected.2);
        }
        let disabled = refreshed(VALID, true).unwrap_err();
        let wanted = (400, "invalid_grant", "Token has been expired or revoked.");
        assert_eq!((disabled.0, disabled.1, &*disabled.2), wanted);
    }
}
