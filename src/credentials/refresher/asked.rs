//! A source, and when it is asked for a token next.

use std::time::Duration;

use tokio::time::Instant;

use crate::credentials::{
    Failing, schedule,
    token::{Token, TokenSource, fetch_once},
};

/// A source that is asked again and again.
pub(super) struct Asked<S> {
    pub(super) source: S,
    pub(super) next: Instant,
    /// How often in a row it gave no token.
    pub(super) failures: u32,
    /// Why it gave none the latest time, if it did not.
    pub(super) failing: Option<Failing>,
}

impl<S: TokenSource> Asked<S> {
    /// A source that is to be asked now.
    pub(super) fn new(source: S) -> Self {
        Self { source, next: Instant::now(), failures: 0, failing: None }
    }

    /// Asks it, once; `token_left` says for how long the token in use is valid.
    pub(super) async fn ask(&mut self, token_left: impl Fn() -> Duration) -> Result<Token, Failing> {
        match fetch_once(&self.source).await {
            Ok(token) => {
                self.next = Instant::now() + schedule::renewal(token.lifetime(), fastrand::f64());
                (self.failures, self.failing) = (0, None);
                Ok(token)
            }
            Err(error) => {
                self.failures += 1;
                self.next = Instant::now() + schedule::backoff(self.failures, token_left(), fastrand::f64());
                let (cause, for_good) = (error.to_string(), error.is_for_good());
                let failing = Failing { cause, next_attempt: self.next, for_good };
                self.failing = Some(failing.clone());
                Err(failing)
            }
        }
    }

    /// The time until it is asked again.
    pub(super) fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}
