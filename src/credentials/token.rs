//! An access token, and where tokens come from.

use std::{fmt, future::Future, time::Duration};

use http::HeaderValue;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::ask::{Asked, Whom};

/// A fresh access token and the time for which it is valid.
pub struct Token {
    secret: Zeroizing<String>,
    lifetime: Duration,
    quota_project: Option<HeaderValue>,
}

/// A source of tokens. It is asked by one task only, so it need not guard against many askers.
pub trait TokenSource: Send + Sync + Sized + 'static {
    /// Fetches a new token, never one from a cache.
    ///
    /// # Errors
    ///
    /// What went wrong, fit for a log.
    fn fetch(&self) -> impl Future<Output = Result<Token, FetchError>> + Send;

    /// The same source with the new content of its file.
    ///
    /// # Errors
    ///
    /// What is wrong with the content.
    fn reload(&self, content: &[u8]) -> Result<Self, String>;
}

/// Why a token could not be had, and by whom, where one of several is to blame. No text is made from the
/// answer's body as it is, which may hold secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// Who was asked gave no answer: names, routes, a proxy, TLS, time.
    #[error("{1}")]
    Unanswered(Option<Asked>, String),
    /// It refused what it was shown: the key, the account, what the account may do, or the clock is wrong.
    /// Asking again is of no use before somebody mends it.
    #[error("{1}")]
    Refused(Option<Asked>, String),
    /// It is in trouble, or what answered is no token endpoint.
    #[error("{1}")]
    Unusable(Option<Asked>, String),
    /// It was not asked, as the token of another identity provider that it is to be shown cannot be had.
    #[error("{0}")]
    NoSubjectToken(String),
    /// It was not asked: a defect of ours, or of yup-oauth2.
    #[error("{0}")]
    NotAsked(String),
}

impl FetchError {
    /// Whether asking again is of no use before somebody mends the credential.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused(..))
    }

    /// The same error, as one by who was asked.
    pub(super) fn by(self, whom: Whom<'_>) -> Self {
        match self.of(whom.name) {
            Self::Unanswered(_, cause) => Self::Unanswered(Some(whom.asked), cause),
            Self::Refused(_, cause) => Self::Refused(Some(whom.asked), cause),
            Self::Unusable(_, cause) => Self::Unusable(Some(whom.asked), cause),
            other @ (Self::NoSubjectToken(_) | Self::NotAsked(_)) => other,
        }
    }

    /// The same error, told as one of `step`.
    pub(super) fn of(self, step: &str) -> Self {
        let told = |cause| format!("{step}: {cause}");
        match self {
            Self::Unanswered(asked, cause) => Self::Unanswered(asked, told(cause)),
            Self::Refused(asked, cause) => Self::Refused(asked, told(cause)),
            Self::Unusable(asked, cause) => Self::Unusable(asked, told(cause)),
            Self::NoSubjectToken(cause) => Self::NoSubjectToken(told(cause)),
            Self::NotAsked(cause) => Self::NotAsked(told(cause)),
        }
    }
}

/// Fetches one token, within the time that is allowed for it.
///
/// # Errors
///
/// What went wrong, fit for a log.
pub async fn fetch_once(source: &impl TokenSource) -> Result<Token, FetchError> {
    timeout(FETCH_TIMEOUT, source.fetch()).await.unwrap_or_else(|_| {
        let late = format!("no token came within {FETCH_TIMEOUT:?}");
        Err(FetchError::Unanswered(None, late))
    })
}

/// The bound on one fetch, all its steps together, which holds for whoever waits for it too.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A token that lives shorter than this could not be used, nor renewed in time.
const MIN_LIFETIME: Duration = Duration::from_secs(5);

/// Google's tokens live for an hour, with an organisation's policy for up to 12; more is no sane answer.
const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

impl Token {
    /// A token as it was answered.
    ///
    /// # Errors
    ///
    /// It is empty, has characters that no header may carry, or its lifetime is not sane.
    pub fn new(secret: Zeroizing<String>, lifetime: Duration) -> Result<Self, FetchError> {
        let printable = |c: u8| (0x21..=0x7e).contains(&c);
        if secret.is_empty() || !secret.bytes().all(printable) {
            let unusable = "the token is empty, or has characters that no header may carry";
            return Err(FetchError::Unusable(None, unusable.to_owned()));
        }
        if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
            let seconds = lifetime.as_secs();
            return Err(FetchError::Unusable(None, format!("the token has a lifetime of {seconds} s")));
        }
        Ok(Self { secret, lifetime, quota_project: None })
    }

    /// The same token, whose calls are to be counted against the quota of a project.
    #[must_use]
    pub(super) fn counted_against(self, quota_project: Option<HeaderValue>) -> Self {
        Self { quota_project, ..self }
    }

    /// The same, believed for no longer than `most`: clocks differ.
    #[must_use]
    pub(super) fn for_at_most(mut self, most: Duration) -> Self {
        self.lifetime = self.lifetime.min(most);
        self
    }

    /// How long it is valid, from when it was fetched.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The value of the `x-goog-user-project` header, if calls are to carry one.
    pub(super) fn quota_project(&self) -> Option<&HeaderValue> {
        self.quota_project.as_ref()
    }

    /// The value of the `authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        let bearer = Zeroizing::new(format!("Bearer {}", self.secret.as_str()));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Token;

    fn token(secret: &str, seconds: u64) -> Result<Token, super::FetchError> {
        Token::new(secret.to_owned().into(), Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_does_not_print() {
        let token = token("ya29.very-secret", 3600).expect("valid");
        assert!(!format!("{token:?}{:?}", token.header()).contains("very-secret"));
        assert_eq!(token.header().as_bytes(), b"Bearer ya29.very-secret");
    }

    #[test]
    fn an_insane_answer_is_no_token() {
        for (secret, seconds) in
            [("", 3600), ("a b", 3600), ("a\r\nb", 3600), ("ä", 3600), ("x", 0), ("x", 604_801)]
        {
            assert!(token(secret, seconds).is_err(), "{secret:?} for {seconds} s");
        }
    }
}
