//! The Security Token Service: an access token in exchange for a token of another identity provider (RFC 8693;
//! <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>).
//!
//! Google's service also accepts JSON, and the name and secret of an OAuth client. This emulator accepts only the
//! form that AIP-4117 requires of clients.

use http::request::Parts;
use serde_json::Value;

use crate::access_token::{Scopes, TokenGrant};
use crate::shared::{Shared, lock};
use crate::subject_token::Workload;
use crate::token_endpoint::{self, Form, OAuthError};

/// The full resource name of the only provider.
pub(crate) const AUDIENCE: &str = "//iam.googleapis.com/projects/100000000000/locations/global/\
                                   workloadIdentityPools/emulator/providers/emulator";

pub(crate) const SUBJECT_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The error text about an invalid subject token.
pub(crate) const REJECTED: &str = "The given credential is rejected by the attribute condition.";

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Exchanges a subject token.
pub(crate) fn exchange(shared: &Shared, head: &Parts, body: &[u8]) -> Result<Value, OAuthError> {
    let form = Form::read(head, body)?;
    let scopes = check(&form)?;
    let workload = lock(&shared.subject_tokens).check(form.require("subject_token")?);
    let principal = workload.map(Workload::principal);
    let principal = principal.filter(|principal| !lock(&shared.accounts).is_disabled(principal));
    let principal = principal.ok_or_else(|| OAuthError::invalid_grant(REJECTED))?;
    let mut issued = token_endpoint::issue(shared, TokenGrant { principal: principal.into(), scopes })?;
    issued["issued_token_type"] = ACCESS_TOKEN.into();
    Ok(issued)
}

/// Checks all parameters but the token, and returns the scopes.
fn check(form: &Form) -> Result<Scopes, OAuthError> {
    let grant = form.require("grant_type")?;
    if grant != GRANT {
        return Err(OAuthError::unsupported_grant_type(grant));
    }
    for (parameter, supported) in
        [("requested_token_type", ACCESS_TOKEN), ("subject_token_type", SUBJECT_TOKEN_TYPE)]
    {
        if form.require(parameter)? != supported {
            let description = format!("Invalid value for \"{parameter}\". Supported is {supported}.");
            return Err(OAuthError::invalid_request(description));
        }
    }
    if form.require("audience")? != AUDIENCE {
        let description = "The target service indicated by the \"audience\" parameters is invalid. This might \
                           either be because the pool or provider is disabled or deleted or because it doesn't \
                           exist.";
        return Err(OAuthError::new("invalid_target", description));
    }
    let invalid = || OAuthError::new("invalid_scope", "Invalid OAuth scope.");
    Scopes::parse(form.require("scope")?).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_token::{ANDROID_MANAGEMENT, CLOUD_PLATFORM};

    /// A valid form with one parameter changed or removed.
    fn checked(parameter: &str, value: Option<&str>) -> Result<Scopes, &'static str> {
        let scope = format!("{CLOUD_PLATFORM} {ANDROID_MANAGEMENT}");
        let valid = [
            ("grant_type", GRANT),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token_type", SUBJECT_TOKEN_TYPE),
            ("audience", AUDIENCE),
            ("scope", &scope),
        ];
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, valid) in valid {
            if let Some(value) = if name == parameter { value } else { Some(valid) } {
                form.append_pair(name, value);
            }
        }
        let form = Form::parse(form.finish().as_bytes()).ok().unwrap();
        check(&form).map_err(|error| error.error)
    }

    #[test]
    fn a_valid_request_gets_its_scopes() {
        assert_eq!(checked("", None).unwrap().names(), [CLOUD_PLATFORM, ANDROID_MANAGEMENT]);
    }

    #[test]
    fn each_parameter_is_checked() {
        for (parameter, invalid, error) in [
            ("grant_type", "refresh_token", "unsupported_grant_type"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt", "invalid_request"),
            ("subject_token_type", "urn:ietf:params:aws:token-type:aws4_request", "invalid_request"),
            ("audience", "//iam.googleapis.com/projects/1", "invalid_target"),
            ("scope", "androidmanagement", "invalid_scope"),
        ] {
            assert_eq!(checked(parameter, Some(invalid)), Err(error), "{parameter}");
            assert_eq!(checked(parameter, None), Err("invalid_request"), "{parameter}");
        }
    }
}
