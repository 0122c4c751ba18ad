//! The background task that keeps one credential's token ready.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Authorization, CredentialStatus, LoadedCredential, schedule,
    status::{FetchFailure, LatestToken},
    token::{FetchError, Token, TokenSource, fetch_in_time},
};
use crate::{
    file_watch::{FileWatch, changed_if_any},
    telemetry::metrics::ReloadCounter,
};

/// The minimum interval between fetches that rejections cause: right after such a fetch, Google would also reject the
/// next token.
const FORCED_PAUSE: Duration = Duration::from_secs(3);

/// The time that the start of the service waits for a first token, even while an attempt is in progress.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The number of consecutive failures after which the start of the service no longer waits.
const GIVE_UP_FAILURES: u32 = 3;

/// The requests of a `Credential` to its task.
pub(super) struct Requests {
    /// The generations of tokens that Google rejected.
    pub(super) rejections: mpsc::Receiver<u64>,
    /// Other definitions of the credential.
    pub(super) redefined: mpsc::UnboundedReceiver<LoadedCredential>,
}

/// Runs until the last `Credential` is dropped.
pub(super) async fn run<S: TokenSource>(
    source: S,
    name: String,
    mut file: Option<FileWatch>,
    status: watch::Sender<CredentialStatus>,
    mut requests: Requests,
    reloads: ReloadCounter,
) {
    let mut refresher = Refresher {
        name,
        status: &status,
        active: Candidate::new(source),
        changed: None,
        generation: 0,
        forced: None,
        reloads,
    };
    // The timer runs beside the attempts, because an attempt may take long.
    let mut give_up = Box::pin(sleep(GIVE_UP_AFTER));
    let mut is_waited_for = true;
    loop {
        // The two attempts run concurrently, so that a service that hangs on one key does not delay the other.
        tokio::select! {
            outcome = refresher.active.outcome(&status) => refresher.handle_active(outcome),
            outcome = outcome_if_any(&mut refresher.changed, &status) => refresher.handle_changed(outcome),
            content = changed_if_any(&mut file) => refresher.reload(&content),
            () = &mut give_up, if is_waited_for => {
                is_waited_for = false;
                status.send_if_modified(|status| status.give_up(GIVE_UP_AFTER));
            }
            Some(loaded) = requests.redefined.recv() => {
                if let Some((source, watch)) = refresher.active.source.redefined(loaded) {
                    file = watch;
                    refresher.adopt(source);
                    refresher.status.send_modify(|status| status.changed_file = None);
                }
            }
            rejected = requests.rejections.recv() => match rejected {
                Some(generation) => refresher.reject(generation),
                None => return,
            },
        }
    }
}

/// Whole milliseconds, as a number of the log.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Refresher<'a, S> {
    name: String,
    status: &'a watch::Sender<CredentialStatus>,
    /// The source of the token in use, or of the first token.
    active: Candidate<S>,
    /// The source of the changed file. It becomes active with its first token: a key can be well-formed and still be
    /// unknown to Google.
    changed: Option<Candidate<S>>,
    generation: u64,
    forced: Option<Instant>,
    reloads: ReloadCounter,
}

impl<S: TokenSource> Refresher<'_, S> {
    /// Handles an outcome of the active source.
    fn handle_active(&mut self, outcome: Result<Token, FetchFailure>) {
        match outcome {
            Ok(token) => self.publish(&token),
            Err(failure) => {
                tracing::warn!(
                    credential = self.name,
                    cause = failure.cause,
                    permanent = failure.is_permanent,
                    retry_in_ms = millis(self.active.pause()),
                    "no token could be fetched"
                );
                let gives_up = failure.is_permanent || self.active.failures >= GIVE_UP_FAILURES;
                self.status.send_modify(|status| {
                    status.failed_fetches += 1;
                    status.fail(failure, gives_up);
                });
            }
        }
    }

    /// Handles an outcome of the changed source.
    fn handle_changed(&mut self, outcome: Result<Token, FetchFailure>) {
        let Some(changed) = self.changed.take() else { return };
        match outcome {
            Ok(token) => {
                tracing::info!(credential = self.name, "the credential's file changed: reloaded");
                self.active = changed;
                self.reloads.succeeded();
                self.status.send_modify(|status| status.changed_file = None);
                self.publish(&token);
            }
            Err(failure) => {
                tracing::warn!(
                    credential = self.name,
                    cause = failure.cause,
                    permanent = failure.is_permanent,
                    retry_in_ms = millis(changed.pause()),
                    "the credential's file changed and gives no token: the one before stays in use"
                );
                // Further failures are of the same version.
                if changed.failures == 1 {
                    self.reloads.failed();
                }
                self.status.send_modify(|status| {
                    status.failed_fetches += 1;
                    status.changed_file = Some(failure);
                });
                self.changed = Some(changed);
            }
        }
    }

    /// Publishes a token of the active source.
    fn publish(&mut self, token: &Token) {
        self.generation += 1;
        tracing::info!(
            credential = self.name,
            lifetime_s = token.lifetime().as_secs(),
            renewal_in_s = self.active.pause().as_secs(),
            "token fetched"
        );
        let authorization = Authorization::new(token, self.generation);
        let ends = Instant::now() + token.lifetime();
        let fetched = SystemTime::now();
        let times = (fetched, fetched + token.lifetime());
        let project = self.active.source.project();
        let latest = LatestToken { authorization, ends, times, forced: self.forced };
        self.status.send_modify(|status| {
            status.fetches += 1;
            (status.token, status.failure) = (Some(latest), None);
            status.project = project;
        });
    }

    /// Makes a source active: with its first token if there is a token now, otherwise at once.
    fn adopt(&mut self, source: S) {
        if self.generation > 0 {
            self.changed = Some(Candidate::new(source));
        } else {
            tracing::info!(credential = self.name, "the credential's file changed: reloaded");
            self.changed = None;
            let project = source.project();
            self.active.replace(source);
            self.status.send_modify(|status| status.project = project);
            self.reloads.succeeded();
        }
    }

    /// Handles the new content of the file. It replaces an earlier change that has not become active.
    fn reload(&mut self, content: &[u8]) {
        // A pending source may have another definition than the active one.
        let latest = self.changed.as_ref().unwrap_or(&self.active).source.reload(content);
        self.changed = None;
        let changed_file = match latest {
            Ok(source) => {
                self.adopt(source);
                None
            }
            Err(cause) => {
                self.reloads.failed();
                tracing::warn!(
                    credential = self.name,
                    cause,
                    "the credential's file changed and is broken: the old one stays in use"
                );
                let cause = format!("it is broken, and the old one stays in use: {cause}");
                Some(FetchFailure { cause, next_attempt: None, is_permanent: true })
            }
        };
        self.status.send_modify(|status| status.changed_file = changed_file);
    }

    /// Handles a rejection by Google.
    fn reject(&mut self, generation: u64) {
        if generation != self.generation || !may_force(self.forced) {
            return;
        }
        tracing::warn!(credential = self.name, "Google rejected the token: fetching another");
        let now = Instant::now();
        (self.forced, self.active.next) = (Some(now), now);
        // The file may have changed because the key of this token was revoked.
        if let Some(changed) = &mut self.changed {
            changed.next = now;
        }
    }
}

/// Whether a rejection may cause a fetch now, after the one at `forced`.
pub(super) fn may_force(forced: Option<Instant>) -> bool {
    forced.is_none_or(|at| at.elapsed() >= FORCED_PAUSE)
}

type Attempt = Pin<Box<dyn Future<Output = Result<Token, FetchError>> + Send>>;

/// A source and the schedule of its attempts, which run one at a time.
struct Candidate<S> {
    source: Arc<S>,
    next: Instant,
    /// The attempt in progress. It outlives the future that waits for it.
    attempt: Option<Attempt>,
    /// The number of consecutive failures.
    failures: u32,
}

impl<S: TokenSource> Candidate<S> {
    /// A source whose first attempt is due now.
    fn new(source: S) -> Self {
        Self { source: Arc::new(source), next: Instant::now(), attempt: None, failures: 0 }
    }

    /// Replaces the source. The next attempt is due now, and earlier failures still count.
    fn replace(&mut self, source: S) {
        (self.source, self.next, self.attempt) = (Arc::new(source), Instant::now(), None);
    }

    /// Waits until an attempt is due, and returns its outcome. This future may be dropped: the next call continues the
    /// same attempt.
    async fn outcome(&mut self, status: &watch::Sender<CredentialStatus>) -> Result<Token, FetchFailure> {
        if self.attempt.is_none() {
            sleep_until(self.next).await;
        }
        let attempt = self.attempt.get_or_insert_with(|| {
            let source = Arc::clone(&self.source);
            Box::pin(async move { fetch_in_time(source.fetch()).await })
        });
        let outcome = attempt.await;
        self.attempt = None;
        let now = Instant::now();
        match outcome {
            Ok(token) => {
                self.next = now + schedule::renewal(token.lifetime(), fastrand::f64());
                self.failures = 0;
                Ok(token)
            }
            Err(error) => {
                self.failures += 1;
                let token_left = status.borrow().token_left();
                self.next = now + schedule::backoff(self.failures, token_left, fastrand::f64());
                let (cause, is_permanent) = (error.to_string(), error.is_permanent());
                Err(FetchFailure { cause, next_attempt: Some(self.next), is_permanent })
            }
        }
    }

    /// The time until the next attempt.
    fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

async fn outcome_if_any<S: TokenSource>(
    candidate: &mut Option<Candidate<S>>,
    status: &watch::Sender<CredentialStatus>,
) -> Result<Token, FetchFailure> {
    match candidate {
        Some(candidate) => candidate.outcome(status).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
