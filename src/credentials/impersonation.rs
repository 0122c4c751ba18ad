//! A service account's token by means of another's: `projects.serviceAccounts.generateAccessToken` of the
//! IAM Credentials API.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{
    Surroundings,
    ask::{Asked, Question, Whom},
    safe_url,
    secret_json::{Malformed, Members},
    token::{FetchError, Token},
};

/// The header that names the project whose quota a call is counted against (Google's system parameters).
pub(super) const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// The scope that a token must have to impersonate.
pub(super) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The lifetime that is asked for unless the file says otherwise: the longest that needs no policy.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What a file may ask for (AIP-4117).
const LIFETIMES: std::ops::RangeInclusive<u64> = 600..=43_200;

/// How a service account is named among delegates and in URLs.
const PREFIX: &str = "projects/-/serviceAccounts/";
const VERB: &str = ":generateAccessToken";

/// What of an email stands in a path as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'@').remove(b'.').remove(b'-').remove(b'_');

/// A service account to be impersonated.
pub(super) struct Impersonation {
    email: String,
    /// Who is asked, for errors: `generateAccessToken of EMAIL`.
    whom: String,
    url: Url,
    delegates: Vec<String>,
    lifetime: Duration,
    quota_project: Option<HeaderValue>,
}

impl Impersonation {
    /// The account of that email, by the API at `iam`.
    pub(super) fn of(email: &str, iam: &Url) -> Self {
        let mut url = iam.clone();
        let escaped = utf8_percent_encode(email, ESCAPED);
        url.set_path(&format!("{}/v1/{PREFIX}{escaped}{VERB}", iam.path().trim_end_matches('/')));
        Self::new(email.to_owned(), url)
    }

    /// The account that a file names by `service_account_impersonation_url`, if it does.
    pub(super) fn parse(
        file: &Members<'_>,
        quota_project: Option<HeaderValue>,
    ) -> Result<Option<Self>, Malformed> {
        const URL: &str = "service_account_impersonation_url";
        let Some(url) = safe_url::of_member(file, URL)? else { return Ok(None) };
        let email = email(&url).ok_or_else(|| {
            file.fault(URL, "must end in projects/-/serviceAccounts/EMAIL:generateAccessToken")
        })?;
        let delegates = delegates(file)?;
        let lifetime = lifetime(file)?;
        Ok(Some(Self { delegates, lifetime, quota_project, ..Self::new(email, url) }))
    }

    fn new(email: String, url: Url) -> Self {
        let whom = format!("generateAccessToken of {email}");
        Self { email, whom, url, delegates: Vec::new(), lifetime: LIFETIME, quota_project: None }
    }

    pub(super) fn email(&self) -> &str {
        &self.email
    }

    /// The account's token, by that of the credential which may impersonate it.
    pub(super) async fn fetch(
        &self,
        surroundings: &Surroundings,
        source: &Token,
        scope: &str,
    ) -> Result<Token, FetchError> {
        let mut headers = HeaderMap::from_iter([
            (AUTHORIZATION, source.header()),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        headers.extend(source.quota_project().map(|project| (QUOTA_PROJECT, project.clone())));
        let lifetime = format!("{}s", self.lifetime.as_secs());
        let body = json!({"scope": [scope], "lifetime": lifetime, "delegates": self.delegates});
        let question = Question {
            whom: Whom { asked: Asked::IamCredentials, name: &self.whom },
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body: body.to_string().into_bytes().into(),
            secrets: Vec::new(),
        };
        let reply = question.ask(&surroundings.client(&self.url)?).await?;
        let token = reply.generated(SystemTime::now(), self.lifetime)?;
        Ok(token.counted_against(self.quota_project.clone()))
    }
}

fn email(url: &Url) -> Option<String> {
    let (path, email) = url.path().strip_suffix(VERB)?.rsplit_once('/')?;
    let email = percent_decode_str(email).decode_utf8().ok()?;
    let known = path.ends_with(PREFIX.trim_end_matches('/')) && !email.is_empty();
    let plain = url.query().is_none() && !email.chars().any(char::is_control);
    (known && plain).then(|| email.into_owned())
}

/// The accounts between the source and the target, each of which may impersonate the next.
fn delegates(file: &Members<'_>) -> Result<Vec<String>, Malformed> {
    let wrong = || file.fault("delegates", "must be a list of service accounts' emails");
    let name = |delegate: &Value| match delegate.as_str() {
        None | Some("") => Err(wrong()),
        Some(whole) if whole.starts_with(PREFIX) => Ok(whole.to_owned()),
        Some(email) => Ok(format!("{PREFIX}{email}")),
    };
    match file.value("delegates") {
        None => Ok(Vec::new()),
        Some(given) => given.as_array().ok_or_else(wrong)?.iter().map(name).collect(),
    }
}

fn lifetime(file: &Members<'_>) -> Result<Duration, Malformed> {
    const NAME: &str = "token_lifetime_seconds";
    let Some(settings) = file.optional_members("service_account_impersonation")? else {
        return Ok(LIFETIME);
    };
    let Some(seconds) = settings.value(NAME) else { return Ok(LIFETIME) };
    let seconds = seconds.as_u64().filter(|seconds| LIFETIMES.contains(seconds));
    let seconds = seconds.ok_or_else(|| settings.fault(NAME, "must be a whole number from 600 to 43200"))?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
