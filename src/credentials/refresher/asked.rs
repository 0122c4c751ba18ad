//! A source, and when it is asked for a token next.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::credentials::{
    Failing, FetchError, schedule,
    token::{Token, TokenSource, fetch_once},
};

type Attempt = Pin<Box<dyn Future<Output = Result<Token, FetchError>> + Send>>;

/// A source that is asked again and again, by one attempt at a time.
pub(super) struct Asked<S> {
    pub(super) source: Arc<S>,
    pub(super) next: Instant,
    /// The attempt under way, which outlives the future that waits for it.
    attempt: Option<Attempt>,
    /// How often in a row it gave no token.
    pub(super) failures: u32,
    /// Why it gave none the latest time, if it did not.
    pub(super) failing: Option<Failing>,
}

impl<S: TokenSource> Asked<S> {
    /// A source that is to be asked now.
    pub(super) fn new(source: S) -> Self {
        let source = Arc::new(source);
        Self { source, next: Instant::now(), attempt: None, failures: 0, failing: None }
    }

    /// Asks another in its place, now; what came of the one before still counts.
    pub(super) fn replace(&mut self, source: S) {
        (self.source, self.next, self.attempt) = (Arc::new(source), Instant::now(), None);
    }

    /// Asks it when that is due, and answers what came of it; `token_left` says for how long the token in use
    /// is valid. Safe to drop and call again: the attempt goes on.
    pub(super) async fn outcome(&mut self, token_left: impl Fn() -> Duration) -> Result<Token, Failing> {
        if self.attempt.is_none() {
            sleep_until(self.next).await;
        }
        let attempt = self.attempt.get_or_insert_with(|| {
            let source = Arc::clone(&self.source);
            Box::pin(async move { fetch_once(&*source).await })
        });
        let outcome = attempt.await;
        self.attempt = None;
        match outcome {
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

/// What comes of asking the source that there may be: nothing, when there is none.
pub(super) async fn outcome_if_any<S: TokenSource>(
    asked: &mut Option<Asked<S>>,
    token_left: impl Fn() -> Duration,
) -> Result<Token, Failing> {
    match asked {
        Some(asked) => asked.outcome(token_left).await,
        None => std::future::pending().await,
    }
}
