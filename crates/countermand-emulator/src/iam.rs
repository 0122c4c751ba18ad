//! IAM Credentials: `projects.serviceAccounts.generateAccessToken`
//! (<https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>).
//!
//! An account may be impersonated by all principals or by none. The error about a disabled account and the text about a
//! lifetime are guesses.

use std::time::{Duration, SystemTime};

use http::request::Parts;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::access_token::{IAM_CREDENTIALS, Scopes, TokenGrant, authorize, bearer};
use crate::api::json_body;
use crate::api_error::ApiError;
use crate::command::parse_duration;
use crate::shared::{Shared, lock};

const METHOD: &str = "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken";

/// The maximum lifetime without an organization policy that extends it. It is also the default.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Debug, PartialEq)]
struct GenerateRequest {
    scopes: Scopes,
    lifetime: Duration,
    /// The accounts in the delegation chain.
    delegates: Vec<String>,
}

/// Issues a token of `account`. Its lifetime is at most that of the settings.
pub(crate) fn generate(shared: &Shared, account: &str, head: &Parts, body: &[u8]) -> Result<Value, ApiError> {
    let now = Instant::now();
    authorize(shared, bearer(head), &IAM_CREDENTIALS, METHOD, now)?;
    let GenerateRequest { scopes, lifetime, delegates } = GenerateRequest::parse(json_body(head, body)?)?;
    let principal = {
        let accounts = lock(&shared.accounts);
        for email in delegates.iter().map(String::as_str).chain([account]) {
            match accounts.impersonable(email) {
                None => return Err(ApiError::no_account(email)),
                Some(false) => return Err(ApiError::may_not_impersonate()),
                Some(true) if accounts.is_disabled(email) => {
                    return Err(ApiError::failed_precondition("Precondition check failed."));
                }
                Some(true) => {}
            }
        }
        account.into()
    };
    let lifetime = lifetime.min(lock(&shared.settings).token_lifetime);
    let issued = lock(&shared.tokens).issue(TokenGrant { principal, scopes }, lifetime, now);
    let token = issued.map_err(|error| {
        tracing::error!(%error, "failed to generate an access token");
        ApiError::internal()
    })?;
    let end = humantime::format_rfc3339_seconds(SystemTime::now() + lifetime).to_string();
    Ok(json!({ "accessToken": token, "expireTime": end }))
}

impl GenerateRequest {
    fn parse(body: Value) -> Result<Self, ApiError> {
        let Value::Object(members) = body else {
            let message = "Invalid JSON payload received. The body is not an object.";
            return Err(ApiError::invalid_argument("", message));
        };
        let known = |name: &&String| matches!(&***name, "scope" | "lifetime" | "delegates");
        if let Some(name) = members.keys().find(|name| !known(name)) {
            let name = Value::from(name.as_str());
            let message = format!("Invalid JSON payload received. Unknown name {name}: Cannot find field.");
            return Err(ApiError::invalid_argument("", message));
        }
        let no_scope = || ApiError::invalid_argument("scope", "Scopes must be given, each by a known name.");
        let scopes = strings("scope", members.get("scope"))?;
        let scopes = Scopes::of(scopes.iter().map(String::as_str)).ok_or_else(no_scope)?;
        let delegates = strings("delegates", members.get("delegates"))?
            .iter()
            .map(|name| name.strip_prefix("projects/-/serviceAccounts/").map(str::to_owned))
            .collect::<Option<_>>();
        let form = "A delegate has the form projects/-/serviceAccounts/{ACCOUNT}.";
        let delegates = delegates.ok_or_else(|| ApiError::invalid_argument("delegates", form))?;
        Ok(Self { scopes, lifetime: lifetime(members.get("lifetime"))?, delegates })
    }
}

fn lifetime(value: Option<&Value>) -> Result<Duration, ApiError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(MAX_LIFETIME) };
    let duration = value.as_str().and_then(parse_duration);
    let valid = duration.filter(|duration| !duration.is_zero() && *duration <= MAX_LIFETIME);
    let message = "The lifetime must be more than 0s and at most 3600s.";
    valid.ok_or_else(|| ApiError::invalid_argument("lifetime", message))
}

fn strings(field: &str, value: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let list = value.as_array().and_then(|list| list.iter().map(text).collect());
    let message = || format!("Invalid value at '{field}'");
    list.ok_or_else(|| ApiError::invalid_argument(field, message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_token::ANDROID_MANAGEMENT as SCOPE;

    #[test]
    fn a_body_has_scopes_and_optional_members() {
        let least = GenerateRequest::parse(json!({ "scope": [SCOPE], "lifetime": null })).unwrap();
        let scopes = Scopes::of([SCOPE]).unwrap();
        let delegates = Vec::new();
        assert_eq!(least, GenerateRequest { scopes: scopes.clone(), lifetime: MAX_LIFETIME, delegates });
        let all = json!({
            "scope": [SCOPE], "lifetime": "300s", "delegates": ["projects/-/serviceAccounts/a@b"],
        });
        let lifetime = Duration::from_secs(300);
        let delegates = vec!["a@b".to_owned()];
        assert_eq!(GenerateRequest::parse(all).unwrap(), GenerateRequest { scopes, lifetime, delegates });
    }

    #[test]
    fn each_member_is_checked() {
        for (member, invalid) in [
            ("scope", json!(null)),
            ("scope", json!([])),
            ("scope", json!(SCOPE)),
            ("scope", json!(["androidmanagement"])),
            ("lifetime", json!(300)),
            ("lifetime", json!("0s")),
            ("lifetime", json!("3601s")),
            ("lifetime", json!("-1s")),
            ("delegates", json!(["a@b"])),
            ("delegates", json!([1])),
        ] {
            let mut body = json!({ "scope": [SCOPE] });
            body[member] = invalid.clone();
            let error = GenerateRequest::parse(body).unwrap_err();
            let field = &error.body()["error"]["details"][0]["fieldViolations"][0]["field"];
            assert_eq!((error.status(), field), ("INVALID_ARGUMENT", &json!(member)), "{invalid}");
        }
        assert!(GenerateRequest::parse(json!({ "scope": [SCOPE], "ttl": "1s" })).is_err());
        assert!(GenerateRequest::parse(json!([SCOPE])).is_err());
    }
}
