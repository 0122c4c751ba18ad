//! Access tokens, the trait of their sources, and the errors of a fetch.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::HeaderValue;
use serde::Deserialize;
use tokio::time::timeout;

use super::{LoadedCredential, Redactor};
use crate::file_watch::FileWatch;

/// The time limit of one fetch, all its steps together. A caller waits no longer for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The shortest accepted lifetime.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// The longest accepted lifetime. Google's tokens are valid for an hour, or with an organization policy for up to 12.
const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// A secret text. It has no `Debug` and no `Display`, so that it cannot be logged.
#[derive(Clone, Deserialize)]
pub struct Secret(String);

/// An access token and its lifetime, as fetched.
pub struct Token {
    secret: Secret,
    lifetime: Duration,
    quota_project: Option<HeaderValue>,
}

/// The value of an `authorization` header with a token. It prints as `Sensitive`.
#[derive(Clone)]
pub struct Authorization {
    header: HeaderValue,
    quota_project: Option<HeaderValue>,
    /// The number of the token: a newer token of the credential has a greater generation.
    pub(super) generation: u64,
    /// Built for the first error text.
    redactor: Arc<OnceLock<Redactor>>,
}

/// The source of one credential's tokens. Only the refresher calls it, so fetches are never concurrent.
pub trait TokenSource: Send + Sync + Sized + 'static {
    /// Fetches a new token. Implementations do not cache.
    ///
    /// # Errors
    ///
    /// The text holds no secret, so it may be logged.
    fn fetch(&self) -> impl Future<Output = Result<Token, FetchError>> + Send;

    /// The same source with the new content of its file.
    ///
    /// # Errors
    ///
    /// The problem of an invalid content.
    fn reload(&self, content: &[u8]) -> Result<Self, String>;

    /// The id of the Google project whose quota the calls count against. `None` if it is unknown.
    fn project(&self) -> Option<Arc<str>> {
        None
    }

    /// The source of another definition of the credential, and the watch on its file. `None` if the kind of source has
    /// no definition.
    fn redefined(&self, _: LoadedCredential) -> Option<(Self, Option<FileWatch>)> {
        None
    }
}

/// A service that a fetch of a token sends requests to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenService {
    /// The OAuth token endpoint, for service accounts and logins.
    TokenEndpoint,
    /// The security token service, which exchanges a subject token.
    TokenExchange,
    /// The URL that returns a workload's subject token.
    SubjectTokenSource,
    /// The metadata server of Google Cloud.
    MetadataServer,
    /// IAM Credentials, for an impersonated account.
    IamCredentials,
}

/// The kind of a [`FetchError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// No response, because of DNS, the network, a proxy, TLS or a timeout.
    Unreachable,
    /// No response, because the forward proxy refused the tunnel to the service.
    RefusedByProxy,
    /// The service refused the key, the account or its permissions, or this machine's clock is inaccurate. Retries fail
    /// until an operator repairs the credential.
    Refused,
    /// The service failed, or its response is not one of a token service.
    Unusable,
    /// No request was sent, because the token of another identity provider could not be read.
    NoSubjectToken,
    /// No request was sent: a defect in this program or in yup-oauth2.
    Internal,
}

/// The reason why a token could not be fetched. The text never quotes a whole response body, which may hold secrets.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
pub struct FetchError {
    /// The kind of failure.
    pub kind: FetchErrorKind,
    /// The service that failed, when one of several did.
    pub service: Option<TokenService>,
    cause: String,
}

impl FetchError {
    /// An error that no particular service caused.
    #[must_use]
    pub fn new(kind: FetchErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, service: None, cause: cause.into() }
    }

    /// An error of `service`, which operators call `name`.
    pub(super) fn of(
        service: TokenService,
        name: &str,
        kind: FetchErrorKind,
        cause: impl fmt::Display,
    ) -> Self {
        Self { kind, service: Some(service), cause: format!("{name}{cause}") }
    }

    /// The same error, with the step that failed as a prefix.
    pub(super) fn within(self, step: &str) -> Self {
        Self { cause: format!("{step}: {}", self.cause), ..self }
    }

    /// Whether retries fail until an operator repairs the credential.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.kind == FetchErrorKind::Refused
    }
}

/// Fetches one token within [`FETCH_TIMEOUT`].
pub(super) async fn fetch_in_time(
    fetch: impl Future<Output = Result<Token, FetchError>>,
) -> Result<Token, FetchError> {
    timeout(FETCH_TIMEOUT, fetch).await.unwrap_or_else(|_| {
        let cause = format!("no token came within {FETCH_TIMEOUT:?}");
        Err(FetchError::new(FetchErrorKind::Unreachable, cause))
    })
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl AsRef<str> for Secret {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Token {
    /// Checks a token that a service returned.
    ///
    /// # Errors
    ///
    /// The token is empty, has characters that no header may carry, or its lifetime is out of range.
    pub fn new(secret: Secret, lifetime: Duration) -> Result<Self, FetchError> {
        let unusable = |cause: String| FetchError::new(FetchErrorKind::Unusable, cause);
        let is_printable = |c: u8| (0x21..=0x7e).contains(&c);
        if secret.0.is_empty() || !secret.0.bytes().all(is_printable) {
            return Err(unusable(
                "the token is empty, or has characters that no header may carry".to_owned(),
            ));
        }
        if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
            return Err(unusable(format!("the token has a lifetime of {} s", lifetime.as_secs())));
        }
        Ok(Self { secret, lifetime, quota_project: None })
    }

    /// The same token, whose calls count against the quota of a project.
    #[must_use]
    pub(super) fn with_quota_project(self, quota_project: Option<HeaderValue>) -> Self {
        Self { quota_project, ..self }
    }

    /// The same token with a lifetime of at most `max`, because the clocks of the two machines may differ.
    #[must_use]
    pub(super) fn for_at_most(self, max: Duration) -> Self {
        Self { lifetime: self.lifetime.min(max), ..self }
    }

    /// The time for which the token is valid, from the fetch on.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The value of the `x-goog-user-project` header, if calls need one.
    pub(super) fn quota_project(&self) -> Option<&HeaderValue> {
        self.quota_project.as_ref()
    }

    /// The value of the `authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        let bearer = format!("Bearer {}", self.secret.0);
        let mut header = HeaderValue::from_str(&bearer).expect("`new` let only printable ASCII in");
        header.set_sensitive(true);
        header
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Authorization {
    /// The headers of a token. `generation` numbers the tokens of one credential.
    pub(crate) fn new(token: &Token, generation: u64) -> Self {
        let quota_project = token.quota_project.clone();
        Self { header: token.header(), quota_project, generation, redactor: Arc::default() }
    }

    /// The header's value, `Bearer …`, which prints as `Sensitive`.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The value of `x-goog-user-project`, when calls count against the quota of another project: a person's
    /// login has no project.
    #[must_use]
    pub fn quota_project(&self) -> Option<&HeaderValue> {
        self.quota_project.as_ref()
    }

    /// Removes the token from the text of a service that received it.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        self.redactor.get_or_init(|| {
            // The scheme is left out because a text may quote the token alone.
            Redactor::of(self.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer ")))
        })
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::{Authorization, FetchErrorKind, Token, fetch_in_time};

    fn token(secret: &str, seconds: u64) -> Result<Token, super::FetchError> {
        Token::new(secret.to_owned().into(), Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_does_not_print() {
        let token = token("ya29.very-secret", 3600).expect("valid");
        let authorization = Authorization::new(&token, 1);
        let printed = format!("{token:?}{:?}{authorization:?}", token.header());
        assert!(!printed.contains("very-secret"), "{printed}");
        assert_eq!(token.header().as_bytes(), b"Bearer ya29.very-secret");
    }

    #[test]
    fn a_token_out_of_range_is_refused() {
        for (secret, seconds) in
            [("", 3600), ("a b", 3600), ("a\r\nb", 3600), ("ä", 3600), ("x", 0), ("x", 604_801)]
        {
            assert!(token(secret, seconds).is_err(), "{secret:?} for {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_times_out() {
        let error = fetch_in_time(pending()).await.expect_err("late");
        assert_eq!(error.kind, FetchErrorKind::Unreachable);
        assert_eq!(error.to_string(), "no token came within 10s");
    }
}
