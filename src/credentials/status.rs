//! The state of a credential, for calls, health and `/readyz`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use humantime::format_duration;
use tokio::time::Instant;

use super::{Authorization, Unavailable};

/// A snapshot of a credential's state. Its texts hold no secret.
#[derive(Debug, Clone, Default)]
pub struct CredentialStatus {
    /// The latest token, which may have ended.
    pub(super) token: Option<LatestToken>,
    /// The Google project of the token, or of the first token while it is fetched.
    pub(super) project: Option<Arc<str>>,
    /// The failure of the latest fetch; `None` after a success, and during the first fetch.
    pub(super) failure: Option<FetchFailure>,
    /// The failure of the changed file. The earlier content stays active.
    pub(super) changed_file: Option<FetchFailure>,
    /// The time of the first failure, for a credential that never had a token.
    pub(super) failing_since: Option<Instant>,
    /// The number of tokens that were fetched.
    pub(super) fetches: u64,
    /// The number of attempts that failed.
    pub(super) failed_fetches: u64,
    /// The start of the service no longer waits for the first token.
    pub(super) is_given_up: bool,
}

/// The latest token.
#[derive(Debug, Clone)]
pub(super) struct LatestToken {
    pub(super) authorization: Authorization,
    pub(super) ends: Instant,
    /// The times of the fetch and of the end by the clock, for metrics.
    pub(super) times: (SystemTime, SystemTime),
    /// The time of the latest fetch that a rejection by Google caused.
    pub(super) forced: Option<Instant>,
}

/// A fetch that failed.
#[derive(Debug, Clone)]
pub(super) struct FetchFailure {
    pub(super) cause: String,
    /// `None` when only another change of the file causes an attempt.
    pub(super) next_attempt: Option<Instant>,
    /// Retries fail until an operator repairs the credential.
    pub(super) is_permanent: bool,
}

/// Whether calls that need a credential can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The service waits for the first token. A credential never returns to this state.
    Starting,
    /// There is a valid token.
    Ready,
    /// There is no valid token: the token has ended, or the start of the service no longer waits for the first one. The
    /// fetch is still retried.
    NotReady,
}

impl Readiness {
    /// Whether the service is ready: no credential is starting, and at least one is ready.
    #[must_use]
    pub fn are_enough(credentials: &[Self]) -> bool {
        !credentials.contains(&Self::Starting) && credentials.contains(&Self::Ready)
    }
}

impl CredentialStatus {
    /// Whether calls can be served now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match &self.token {
            Some(_) if self.token_left() > Duration::ZERO => Readiness::Ready,
            None if !self.is_given_up => Readiness::Starting,
            Some(_) | None => Readiness::NotReady,
        }
    }

    /// The time until the token ends; zero without a valid one.
    #[must_use]
    pub fn token_left(&self) -> Duration {
        let now = Instant::now();
        self.token.as_ref().map_or(Duration::ZERO, |token| token.ends.saturating_duration_since(now))
    }

    /// The times at which the latest token was fetched and at which it ends; `None` before the first token.
    #[must_use]
    pub fn token_times(&self) -> Option<(SystemTime, SystemTime)> {
        self.token.as_ref().map(|token| token.times)
    }

    /// The number of tokens that were fetched, and the number of attempts that failed.
    #[must_use]
    pub fn fetch_counts(&self) -> (u64, u64) {
        (self.fetches, self.failed_fetches)
    }

    /// The time since the latest token ended, or since the first failure.
    #[must_use]
    pub fn without_token_for(&self) -> Duration {
        let since = self.token.as_ref().map(|token| token.ends).or(self.failing_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The reason why there is no valid token, or why the renewal failed.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        let failure = self.failure.as_ref().map(|failure| failure.cause.clone());
        if self.readiness() != Readiness::NotReady {
            return failure;
        }
        let cause = failure.unwrap_or_else(|| "the token has ended, and its renewal is late".to_owned());
        Some(cause + &self.changed_file_text())
    }

    /// The reason why the changed file gives no token, while the earlier content is active.
    #[must_use]
    pub fn changed_file(&self) -> Option<&str> {
        self.changed_file.as_ref().map(|failure| failure.cause.as_str())
    }

    /// Whether there is no valid token, and retries fail until an operator repairs the credential.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.readiness() == Readiness::NotReady
            && self.failure.is_some()
            && [&self.failure, &self.changed_file].into_iter().flatten().all(|failure| failure.is_permanent)
    }

    fn changed_file_text(&self) -> String {
        self.changed_file()
            .map_or_else(String::new, |cause| format!("; the changed file gives no token: {cause}"))
    }

    /// The result for a caller now. `None` means that the caller waits for the fetch in progress.
    pub(super) fn authorization(
        &self,
        is_wanted: impl Fn(&Authorization) -> bool,
    ) -> Option<Result<Authorization, Unavailable>> {
        if let Some(token) = &self.token
            && self.token_left() > Duration::ZERO
            && is_wanted(&token.authorization)
        {
            return Some(Ok(token.authorization.clone()));
        }
        let next_attempts = [Some(self.failure.as_ref()?), self.changed_file.as_ref()];
        let next_attempt =
            next_attempts.into_iter().flatten().filter_map(|failure| failure.next_attempt).min();
        let retry_after = next_attempt?.saturating_duration_since(Instant::now());
        // An attempt that is due is in progress, so the caller waits for its outcome.
        (!retry_after.is_zero()).then_some(Err(Unavailable { retry_after }))
    }

    /// Records a failed fetch.
    pub(super) fn fail(&mut self, failure: FetchFailure, gives_up: bool) {
        self.failing_since.get_or_insert_with(Instant::now);
        self.failure = Some(failure);
        self.is_given_up |= gives_up;
    }

    /// Ends the wait for the first token; `false` when that changes nothing.
    pub(super) fn give_up(&mut self, after: Duration) -> bool {
        if self.token.is_some() || self.is_given_up {
            return false;
        }
        let now = Instant::now();
        // The first attempt may still be in progress. With a next attempt at `now`, callers wait for its outcome.
        let cause = format!("no token has come within {after:?}");
        let first = FetchFailure { cause, next_attempt: Some(now), is_permanent: false };
        let failure = self.failure.take().unwrap_or(first);
        self.fail(failure, true);
        true
    }
}

impl fmt::Display for CredentialStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format_duration(Duration::from_secs(time.as_secs()));
        match (self.readiness(), self.cause()) {
            (Readiness::Starting, None) => f.write_str("the first token has not arrived yet")?,
            (Readiness::Starting, Some(cause)) => write!(f, "no valid token yet: {cause}")?,
            (Readiness::Ready, cause) => {
                write!(f, "valid for {}", seconds(self.token_left()))?;
                if let Some(cause) = cause {
                    write!(f, ", and not renewed: {cause}")?;
                }
            }
            (Readiness::NotReady, cause) => {
                let repair = if self.is_permanent() { "; to be mended" } else { "" };
                let time = seconds(self.without_token_for());
                return write!(f, "no valid token: {} (for {time}{repair})", cause.unwrap_or_default());
            }
        }
        f.write_str(&self.changed_file_text())
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness::{self, *};

    #[test]
    fn the_service_waits_for_each_credential_and_needs_one() {
        let cases: [(&[Readiness], bool); 8] = [
            (&[Starting], false),
            (&[Ready], true),
            (&[NotReady], false),
            (&[Ready, Starting], false),
            (&[Starting, Ready], false),
            (&[NotReady, Ready, NotReady], true),
            (&[NotReady, NotReady], false),
            (&[], false),
        ];
        for (credentials, ready) in cases {
            assert_eq!(Readiness::are_enough(credentials), ready, "{credentials:?}");
        }
    }
}
