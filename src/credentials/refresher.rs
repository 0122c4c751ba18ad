//! The background task that keeps one credential's token ready.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    Authorization, Failing, Held, State, readiness,
    token::{Token, TokenSource},
};
use crate::file_watch::{FileWatch, changed_if_any};

mod asked;
mod failure;

use asked::{Asked, outcome_if_any};

/// A token that was fetched because Google rejected the one before is not replaced for the same reason
/// sooner than this: it would be rejected likewise.
pub(super) const FORCED_PAUSE: Duration = Duration::from_secs(3);

/// Runs until the last `Credential` is gone.
pub(super) async fn run<S: TokenSource>(
    source: S,
    name: String,
    file: Option<FileWatch>,
    publish: watch::Sender<State>,
    rejections: mpsc::Receiver<u64>,
) {
    // Beside the attempts, since one that is under way may still take long.
    let patience = async {
        sleep(readiness::PATIENCE).await;
        publish.send_if_modified(State::give_up);
        std::future::pending().await
    };
    tokio::select! {
        () = renew(source, name, file, &publish, rejections) => {}
        () = patience => {}
    }
}

async fn renew<S: TokenSource>(
    source: S,
    name: String,
    mut file: Option<FileWatch>,
    publish: &watch::Sender<State>,
    mut rejections: mpsc::Receiver<u64>,
) {
    let in_force = Asked::new(source);
    let mut refresher = Refresher { name, publish, in_force, changed: None, generation: 0, forced: None };
    loop {
        // Each is asked beside the other, so that none waits for an endpoint that is not its own.
        tokio::select! {
            outcome = refresher.in_force.outcome(|| token_left(publish)) => refresher.renewed(outcome),
            outcome = outcome_if_any(&mut refresher.changed, || token_left(publish)) => {
                refresher.tried(outcome);
            }
            content = changed_if_any(&mut file) => refresher.reload(&content),
            rejected = rejections.recv() => match rejected {
                Some(generation) => refresher.reject(generation),
                None => return,
            },
        }
    }
}

struct Refresher<'a, S> {
    name: String,
    publish: &'a watch::Sender<State>,
    /// What gave the token in use, or, as long as there has been none, what is to give the first.
    in_force: Asked<S>,
    /// What the file has changed to since. It comes into force with its first token: a key that is whole may
    /// still be one that Google does not know.
    changed: Option<Asked<S>>,
    generation: u64,
    forced: Option<Instant>,
}

impl<S: TokenSource> Refresher<'_, S> {
    /// Takes what the source in force gave.
    fn renewed(&mut self, outcome: Result<Token, Failing>) {
        match outcome {
            Ok(token) => self.hold(&token),
            Err(failing) => {
                tracing::warn!(
                    credential = self.name,
                    cause = failing.cause,
                    for_good = failing.for_good,
                    retry_in_ms = self.in_force.pause().as_millis(),
                    "no token could be fetched"
                );
                let given_up = readiness::is_given_up(failing.for_good, self.in_force.failures);
                self.publish.send_modify(|state| state.fail(failing, given_up));
            }
        }
    }

    /// Takes what the changed one gave.
    fn tried(&mut self, outcome: Result<Token, Failing>) {
        let Some(changed) = self.changed.take() else { return };
        match outcome {
            Ok(token) => {
                tracing::info!(credential = self.name, "the credential's file changed: taken up");
                self.in_force = changed;
                self.hold(&token);
            }
            Err(failing) => {
                tracing::warn!(
                    credential = self.name,
                    cause = failing.cause,
                    for_good = failing.for_good,
                    retry_in_ms = changed.pause().as_millis(),
                    "the credential's file changed and gives no token: the one before stays in use"
                );
                self.publish.send_modify(|state| state.change(Some(failing)));
                self.changed = Some(changed);
            }
        }
    }

    /// Puts a token of the source in force into use.
    fn hold(&mut self, token: &Token) {
        self.generation += 1;
        tracing::info!(
            credential = self.name,
            lifetime_s = token.lifetime().as_secs(),
            renewal_in_s = self.in_force.pause().as_secs(),
            "token fetched"
        );
        let quota_project = token.quota_project().cloned();
        let authorization = Authorization::new(token.header(), quota_project, self.generation);
        let ends = Instant::now() + token.lifetime();
        let token = Held { authorization, ends, forced: self.forced };
        let changed = self.changed.as_ref().and_then(|changed| changed.failing.clone());
        self.publish.send_replace(State::Held { token, failing: None, changed });
    }

    /// Takes the new content of the file. What it held meanwhile is not to come into force, now that it holds
    /// that no more.
    fn reload(&mut self, content: &[u8]) {
        self.changed = None;
        self.publish.send_modify(|state| state.change(None));
        match self.in_force.source.reload(content) {
            Ok(source) if self.generation > 0 => self.changed = Some(Asked::new(source)),
            Ok(source) => {
                tracing::info!(credential = self.name, "the credential's file changed: taken up");
                self.in_force.replace(source);
            }
            Err(cause) => {
                tracing::warn!(
                    credential = self.name,
                    cause,
                    "the credential's file changed and is broken: the old one stays in use"
                );
            }
        }
    }

    /// Takes a rejection by Google.
    fn reject(&mut self, generation: u64) {
        let is_news = generation == self.generation && may_force(self.forced);
        if is_news {
            tracing::warn!(credential = self.name, "Google rejected the token: fetching another");
            let now = Instant::now();
            (self.forced, self.in_force.next) = (Some(now), now);
            // The file may have changed because the key of this token was revoked.
            if let Some(changed) = &mut self.changed {
                changed.next = now;
            }
        }
    }
}

/// Whether a rejection may cause a fetch now, after the one at `forced`.
pub(super) fn may_force(forced: Option<Instant>) -> bool {
    forced.is_none_or(|at| at.elapsed() >= FORCED_PAUSE)
}

fn token_left(publish: &watch::Sender<State>) -> Duration {
    match &*publish.borrow() {
        State::Held { token, .. } => token.ends.saturating_duration_since(Instant::now()),
        State::Starting | State::Without { .. } => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
