//! The token endpoint: a token for a service account's assertion (RFC 7523) or for a person's refresh token
//! (RFC 6749 section 6).
//!
//! The words of its refusals are those of Google's endpoint, as its documents and its users quote them.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts;
use serde_json::Value;

use super::account::PERSON;
use super::assertion;
use super::key::random_text;
use super::oauth::{self, Form, Rejection};
use super::scope::Scopes;
use super::state::{State, lock};
use super::token::Grant;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What the person's credential file holds, gcloud's OAuth client included. A secret: it does not print.
pub(super) struct Consent {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) refresh_token: String,
}

impl Consent {
    pub(super) fn generate() -> io::Result<Self> {
        Ok(Self {
            client_id: "100000000000-emulator.apps.googleusercontent.com".to_owned(),
            client_secret: format!("GOCSPX-{}", random_text::<21>()?),
            refresh_token: format!("1//0{}", random_text::<48>()?),
        })
    }
}

/// Answers a request for a token.
pub(super) fn grant(state: &State, head: &Parts, body: &[u8]) -> Result<Value, Rejection> {
    let form = Form::read(head, body)?;
    match form.demand("grant_type")? {
        JWT_BEARER => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let assertion = form.demand("assertion")?;
            let grant = assertion::check(assertion, &lock(&state.accounts), &state.token_url(), now)?;
            oauth::issue(state, grant)
        }
        "refresh_token" => {
            let gone = lock(&state.accounts).is_disabled(PERSON);
            let scopes = refresh(&form, &state.consent, gone)?;
            let names = scopes.names().join(" ");
            let mut granted = oauth::issue(state, Grant { principal: PERSON.into(), scopes })?;
            granted["scope"] = names.into();
            Ok(granted)
        }
        other => {
            let description = format!("Invalid grant_type: {other}");
            Err(Rejection::new("unsupported_grant_type", description))
        }
    }
}

/// The scopes that a refresh token gives, out of those that the person agreed to.
fn refresh(form: &Form, consent: &Consent, gone: bool) -> Result<Scopes, Rejection> {
    let client = |description: &str| Rejection::new("invalid_client", description).with_status(401);
    let no_client = || Rejection::request("Could not determine client ID from request.");
    if form.get("client_id").ok_or_else(no_client)? != consent.client_id {
        return Err(client("The OAuth client was not found."));
    }
    let no_secret = || Rejection::request("client_secret is missing.");
    if form.get("client_secret").ok_or_else(no_secret)? != consent.client_secret {
        return Err(client("The provided client secret is invalid."));
    }
    if form.demand("refresh_token")? != consent.refresh_token {
        return Err(Rejection::grant("Bad Request"));
    }
    if gone {
        return Err(Rejection::grant("Token has been expired or revoked."));
    }
    let Some(asked) = form.get("scope") else { return Ok(Scopes::consented()) };
    let invalid = || Rejection::new("invalid_scope", "Some requested scopes were invalid.");
    Scopes::parse(asked).filter(|scopes| scopes.within(&Scopes::consented())).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::scope::{ANDROID_MANAGEMENT, IAM};

    const GOOD: &str = "client_id=c&client_secret=s&refresh_token=r";

    fn refreshed(form: &str, gone: bool) -> Result<Scopes, (u16, &'static str, String)> {
        let [client_id, client_secret, refresh_token] = ["c", "s", "r"].map(str::to_owned);
        let form = Form::parse(form.as_bytes()).ok().unwrap();
        let consent = Consent { client_id, client_secret, refresh_token };
        refresh(&form, &consent, gone)
            .map_err(|rejection| (rejection.http, rejection.error, rejection.description))
    }

    #[test]
    fn a_refresh_gives_what_was_agreed_to_or_a_part_of_it() {
        assert_eq!(refreshed(GOOD, false), Ok(Scopes::consented()));
        let part = refreshed(&format!("{GOOD}&scope={ANDROID_MANAGEMENT}+openid"), false).unwrap();
        assert_eq!(part.names(), [ANDROID_MANAGEMENT, "openid"]);
        for more in [IAM, "nonesuch", " "] {
            let refused = refreshed(&format!("{GOOD}&scope={more}"), false).unwrap_err();
            assert_eq!((refused.0, refused.1), (400, "invalid_scope"), "{more}");
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
            let refused = refreshed(form, false).unwrap_err();
            assert_eq!((refused.0, refused.1), (http, error), "{form}");
            assert!(refused.2.contains(words), "{form}: {}", refused.2);
        }
        let gone = refreshed(GOOD, true).unwrap_err();
        assert_eq!((gone.0, gone.1, &*gone.2), (400, "invalid_grant", "Token has been expired or revoked."));
    }
}
