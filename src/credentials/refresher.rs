//! The background task that keeps one credential's token ready.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Authorization, Held, State, readiness,
    token::{Token, TokenSource},
};
use crate::file_watch::{FileWatch, changed_if_any};

mod asked;
mod failure;

use asked::Asked;

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
        refresher.attempt().await;
        loop {
            let is_due = tokio::select! {
                () = sleep_until(refresher.next()) => true,
                content = changed_if_any(&mut file) => refresher.reload(&content),
                rejected = rejections.recv() => match rejected {
                    Some(generation) => refresher.reject(generation),
                    None => return,
                },
            };
            if is_due {
                break;
            }
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
    /// When an attempt is due.
    fn next(&self) -> Instant {
        let in_force = self.in_force.next;
        self.changed.as_ref().map_or(in_force, |changed| changed.next.min(in_force))
    }

    /// Asks the source whose turn it is.
    async fn attempt(&mut self) {
        match self.changed.take_if(|changed| changed.next <= self.in_force.next) {
            Some(changed) => self.try_change(changed).await,
            None => self.ask_in_force().await,
        }
    }

    async fn ask_in_force(&mut self) {
        match self.in_force.ask(|| token_left(self.publish)).await {
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

    async fn try_change(&mut self, mut changed: Asked<S>) {
        match changed.ask(|| token_left(self.publish)).await {
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

    /// Takes the new content of the file; whether an attempt is due by it.
    fn reload(&mut self, content: &[u8]) -> bool {
        match self.in_force.source.reload(content) {
            Ok(source) if self.generation > 0 => self.changed = Some(Asked::new(source)),
            Ok(source) => {
                tracing::info!(credential = self.name, "the credential's file changed: taken up");
                self.in_force.source = source;
                self.in_force.next = Instant::now();
            }
            Err(cause) => {
                tracing::warn!(
                    credential = self.name,
                    cause,
                    "the credential's file changed and is broken: the old one stays in use"
                );
                // What it held meanwhile is not to come into force, now that it holds that no more.
                self.changed = None;
                self.publish.send_modify(|state| state.change(None));
                return false;
            }
        }
        true
    }

    /// Takes a rejection by Google; whether an attempt is due by it.
    fn reject(&mut self, generation: u64) -> bool {
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
        is_news
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
