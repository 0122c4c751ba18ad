//! IAM Credentials: `projects.serviceAccounts.generateAccessToken`
//! (<https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>).
//!
//! Who may impersonate whom is not modelled: an account may be impersonated by all or by nobody. What Google
//! answers about an account that is disabled is a guess, and so are the words about a lifetime.

use std::time::{Duration, SystemTime};

use http::request::Parts;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::access::{IAM_CREDENTIALS, authorise, bearer};
use super::api::json_body;
use super::command::parse_duration;
use super::refusal::Refusal;
use super::scope::Scopes;
use super::state::{State, lock};
use super::token::Grant;

const METHOD: &str = "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken";

/// The longest lifetime without an organisation's leave, and the one that is given unless asked otherwise.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a body asks for.
#[derive(Debug, PartialEq)]
struct Request {
    scopes: Scopes,
    lifetime: Duration,
    /// The accounts through which the permission goes.
    delegates: Vec<String>,
}

/// Issues a token of `account`; it is no longer valid than tokens are here.
pub(super) fn generate(state: &State, account: &str, head: &Parts, body: &[u8]) -> Result<Value, Refusal> {
    let now = Instant::now();
    authorise(state, bearer(head), &IAM_CREDENTIALS, METHOD, now)?;
    let Request { scopes, lifetime, delegates } = Request::parse(json_body(head, body)?)?;
    let principal = {
        let accounts = lock(&state.accounts);
        for email in delegates.iter().map(String::as_str).chain([account]) {
            match accounts.impersonable(email) {
                None => return Err(Refusal::no_account(email)),
                Some(false) => return Err(Refusal::may_not_impersonate()),
                Some(true) if accounts.is_disabled(email) => {
                    return Err(Refusal::failed_precondition("Precondition check failed."));
                }
                Some(true) => {}
            }
        }
        account.into()
    };
    let lifetime = lifetime.min(lock(&state.settings).token_lifetime);
    let issued = lock(&state.tokens).issue(Grant { principal, scopes }, lifetime, now);
    let token = issued.map_err(|error| {
        tracing::error!(%error, "emulator: no access token could be made");
        Refusal::internal()
    })?;
    let end = humantime::format_rfc3339_seconds(SystemTime::now() + lifetime).to_string();
    Ok(json!({ "accessToken": token, "expireTime": end }))
}

impl Request {
    fn parse(body: Value) -> Result<Self, Refusal> {
        let Value::Object(members) = body else {
            let message = "Invalid JSON payload received. The body is no object.";
            return Err(Refusal::invalid_argument("", message));
        };
        let known = |name: &&String| matches!(&***name, "scope" | "lifetime" | "delegates");
        if let Some(name) = members.keys().find(|name| !known(name)) {
            let name = Value::from(name.as_str());
            let message = format!("Invalid JSON payload received. Unknown name {name}: Cannot find field.");
            return Err(Refusal::invalid_argument("", message));
        }
        let no_scope = || Refusal::invalid_argument("scope", "Scopes must be given, each by a known name.");
        let scopes = strings("scope", members.get("scope"))?;
        let scopes = Scopes::of(scopes.iter().map(String::as_str)).ok_or_else(no_scope)?;
        let delegates = strings("delegates", members.get("delegates"))?
            .iter()
            .map(|name| name.strip_prefix("projects/-/serviceAccounts/").map(str::to_owned))
            .collect::<Option<_>>();
        let form = "A delegate has the form projects/-/serviceAccounts/{ACCOUNT}.";
        let delegates = delegates.ok_or_else(|| Refusal::invalid_argument("delegates", form))?;
        Ok(Self { scopes, lifetime: lifetime(members.get("lifetime"))?, delegates })
    }
}

fn lifetime(value: Option<&Value>) -> Result<Duration, Refusal> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(LONGEST) };
    let duration = value.as_str().and_then(parse_duration);
    let sound = duration.filter(|duration| !duration.is_zero() && *duration <= LONGEST);
    let message = "The lifetime must be more than 0s and at most 3600s.";
    sound.ok_or_else(|| Refusal::invalid_argument("lifetime", message))
}

fn strings(field: &str, value: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let list = value.as_array().and_then(|list| list.iter().map(text).collect());
    let message = || format!("Invalid value at '{field}'");
    list.ok_or_else(|| Refusal::invalid_argument(field, message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::scope::ANDROID_MANAGEMENT as SCOPE;

    #[test]
    fn a_body_has_scopes_and_may_have_more() {
        let least = Request::parse(json!({ "scope": [SCOPE], "lifetime": null })).unwrap();
        let scopes = Scopes::of([SCOPE]).unwrap();
        let delegates = Vec::new();
        assert_eq!(least, Request { scopes: scopes.clone(), lifetime: LONGEST, delegates });
        let all = json!({
            "scope": [SCOPE], "lifetime": "300s", "delegates": ["projects/-/serviceAccounts/a@b"],
        });
        let lifetime = Duration::from_secs(300);
        let delegates = vec!["a@b".to_owned()];
        assert_eq!(Request::parse(all).unwrap(), Request { scopes, lifetime, delegates });
    }

    #[test]
    fn each_member_is_checked() {
        for (member, wrong) in [
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
            body[member] = wrong.clone();
            let refusal = Request::parse(body).unwrap_err();
            let field = &refusal.body()["error"]["details"][0]["fieldViolations"][0]["field"];
            assert_eq!((refusal.status(), field), ("INVALID_ARGUMENT", &json!(member)), "{wrong}");
        }
        assert!(Request::parse(json!({ "scope": [SCOPE], "ttl": "1s" })).is_err());
        assert!(Request::parse(json!([SCOPE])).is_err());
    }
}
