//! The Security Token Service: a federated access token for a token of another identity provider (RFC 8693;
//! <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>).
//!
//! Google's takes JSON beside forms, and an OAuth client's name and secret; AIP-4117 has clients send a form,
//! and this looks at nothing else.

use http::request::Parts;
use serde_json::Value;

use super::oauth::{self, Form, Rejection};
use super::scope::Scopes;
use super::state::{State, lock};
use super::token::Grant;

/// The only pool's only provider, by its full resource name.
pub(super) const AUDIENCE: &str = "//iam.googleapis.com/projects/100000000000/locations/global/\
                                   workloadIdentityPools/emulator/providers/emulator";

/// What the provider vouches with.
pub(super) const SUBJECT_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What is said of a subject token that does not hold.
pub(super) const REJECTED: &str = "The given credential is rejected by the attribute condition.";

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Exchanges a subject token.
pub(super) fn exchange(state: &State, head: &Parts, body: &[u8]) -> Result<Value, Rejection> {
    let form = Form::read(head, body)?;
    let scopes = check(&form)?;
    let source = lock(&state.subjects).check(form.demand("subject_token")?);
    let principal = source.map(|source| source.principal());
    let principal = principal.filter(|principal| !lock(&state.accounts).is_disabled(principal));
    let principal = principal.ok_or_else(|| Rejection::grant(REJECTED))?;
    let mut granted = oauth::issue(state, Grant { principal: principal.into(), scopes })?;
    granted["issued_token_type"] = ACCESS_TOKEN.into();
    Ok(granted)
}

/// Checks all parameters but the token; the scopes that are asked for.
fn check(form: &Form) -> Result<Scopes, Rejection> {
    let grant = form.demand("grant_type")?;
    if grant != GRANT {
        let description = format!("Invalid grant_type: {grant}");
        return Err(Rejection::new("unsupported_grant_type", description));
    }
    for (parameter, supported) in
        [("requested_token_type", ACCESS_TOKEN), ("subject_token_type", SUBJECT_TOKEN_TYPE)]
    {
        if form.demand(parameter)? != supported {
            let description = format!("Invalid value for \"{parameter}\". Supported is {supported}.");
            return Err(Rejection::request(description));
        }
    }
    if form.demand("audience")? != AUDIENCE {
        let description = "The target service indicated by the \"audience\" parameters is invalid. This might \
                           either be because the pool or provider is disabled or deleted or because it doesn't \
                           exist.";
        return Err(Rejection::new("invalid_target", description));
    }
    let invalid = || Rejection::new("invalid_scope", "Invalid OAuth scope.");
    Scopes::parse(form.demand("scope")?).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::scope::{ANDROID_MANAGEMENT, CLOUD_PLATFORM};

    /// A sound form with one parameter changed, or taken out.
    fn checked(parameter: &str, value: Option<&str>) -> Result<Scopes, &'static str> {
        let scope = format!("{CLOUD_PLATFORM} {ANDROID_MANAGEMENT}");
        let sound = [
            ("grant_type", GRANT),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token_type", SUBJECT_TOKEN_TYPE),
            ("audience", AUDIENCE),
            ("scope", &scope),
        ];
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, sound) in sound {
            if let Some(value) = if name == parameter { value } else { Some(sound) } {
                form.append_pair(name, value);
            }
        }
        let form = Form::parse(form.finish().as_bytes()).ok().unwrap();
        check(&form).map_err(|rejection| rejection.error)
    }

    #[test]
    fn a_sound_request_has_the_scopes_that_it_asks_for() {
        assert_eq!(checked("", None).unwrap().names(), [CLOUD_PLATFORM, ANDROID_MANAGEMENT]);
    }

    #[test]
    fn each_parameter_is_checked() {
        for (parameter, wrong, error) in [
            ("grant_type", "refresh_token", "unsupported_grant_type"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt", "invalid_request"),
            ("subject_token_type", "urn:ietf:params:aws:token-type:aws4_request", "invalid_request"),
            ("audience", "//iam.googleapis.com/projects/1", "invalid_target"),
            ("scope", "androidmanagement", "invalid_scope"),
        ] {
            assert_eq!(checked(parameter, Some(wrong)), Err(error), "{parameter}");
            assert_eq!(checked(parameter, None), Err("invalid_request"), "{parameter}");
        }
    }
}
