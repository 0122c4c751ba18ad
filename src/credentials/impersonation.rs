//! Impersonation: fetches a service account's token with the token of another account, by
//! `projects.serviceAccounts.generateAccessToken` of the IAM Credentials API.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Surroundings,
    credential_file::{InvalidContent, members, safe_url},
    request::TokenRequest,
    token::{FetchError, Token, TokenService},
};

/// The header that names the project whose quota a call counts against (Google's system parameters).
pub(super) const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// The scope that a token needs for impersonation.
pub(super) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The requested lifetime if the file has none: the longest that needs no organization policy.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The lifetimes in seconds that a file may request (AIP-4117).
const LIFETIMES: std::ops::RangeInclusive<u64> = 600..=43_200;

/// The prefix of a service account's resource name, in delegates and URLs.
const PREFIX: &str = "projects/-/serviceAccounts/";
const VERB: &str = ":generateAccessToken";

/// The characters of an email that are escaped in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'@').remove(b'.').remove(b'-').remove(b'_');

/// A service account to be impersonated.
pub(super) struct Impersonation {
    email: String,
    url: Url,
    delegates: Vec<String>,
    lifetime: Duration,
    quota_project: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct ImpersonationFile {
    service_account_impersonation_url: Option<String>,
    service_account_impersonation: Option<ImpersonationSettings>,
    delegates: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ImpersonationSettings {
    token_lifetime_seconds: Option<u64>,
}

impl Impersonation {
    /// The account with this email. `iam` is the URL of the API.
    pub(super) fn of(email: &str, iam: &Url) -> Self {
        let mut url = iam.clone();
        let escaped = utf8_percent_encode(email, ESCAPED);
        url.set_path(&format!("{}/v1/{PREFIX}{escaped}{VERB}", iam.path().trim_end_matches('/')));
        let (email, delegates) = (email.to_owned(), Vec::new());
        Self { email, url, delegates, lifetime: LIFETIME, quota_project: None }
    }

    /// The URL of its requests.
    pub(super) fn endpoint(&self) -> &Url {
        &self.url
    }

    /// The account that `service_account_impersonation_url` of the file names; `None` without that member.
    pub(super) fn parse(
        file: &Value,
        quota_project: Option<HeaderValue>,
    ) -> Result<Option<Self>, InvalidContent> {
        const URL: &str = "service_account_impersonation_url";
        let file: ImpersonationFile = members(file)?;
        let Some(url) = safe_url(file.service_account_impersonation_url, URL)? else { return Ok(None) };
        let email = email(&url).ok_or_else(|| {
            InvalidContent::member(URL, "must end in projects/-/serviceAccounts/EMAIL:generateAccessToken")
        })?;
        let delegate = |delegate: String| match delegate {
            empty if empty.is_empty() => {
                Err(InvalidContent::member("delegates", "must be a list of service accounts' emails"))
            }
            whole if whole.starts_with(PREFIX) => Ok(whole),
            email => Ok(format!("{PREFIX}{email}")),
        };
        let delegates =
            file.delegates.unwrap_or_default().into_iter().map(delegate).collect::<Result<_, _>>()?;
        let lifetime = match file.service_account_impersonation.and_then(|given| given.token_lifetime_seconds)
        {
            None => LIFETIME,
            Some(seconds) if LIFETIMES.contains(&seconds) => Duration::from_secs(seconds),
            Some(_) => {
                let member = "service_account_impersonation.token_lifetime_seconds";
                return Err(InvalidContent::member(member, "must be a whole number from 600 to 43200"));
            }
        };
        Ok(Some(Self { email, url, delegates, lifetime, quota_project }))
    }

    pub(super) fn email(&self) -> &str {
        &self.email
    }

    /// Fetches the account's token. `source` is the token of an account that may impersonate it.
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
        let request = TokenRequest {
            service: TokenService::IamCredentials,
            name: format!("generateAccessToken of {}", self.email).into(),
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body: body.to_string().into_bytes(),
            secrets: Vec::new(),
        };
        let response = request.send(&surroundings.client(&self.url)?).await?;
        let token = response.generated(SystemTime::now(), self.lifetime)?;
        Ok(token.with_quota_project(self.quota_project.clone()))
    }
}

fn email(url: &Url) -> Option<String> {
    let (path, email) = url.path().strip_suffix(VERB)?.rsplit_once('/')?;
    let email = percent_decode_str(email).decode_utf8().ok()?;
    let is_account = path.ends_with(PREFIX.trim_end_matches('/')) && !email.is_empty();
    let is_plain = url.query().is_none() && !email.chars().any(char::is_control);
    (is_account && is_plain).then(|| email.into_owned())
}

#[cfg(test)]
mod tests;
