//! The background task that keeps one credential's token ready.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Authorization, Failing, Held, State, readiness, schedule,
    token::{Token, TokenSource, fetch_once},
};
use crate::file_watch::{FileWatch, changed_if_any};

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
    mut source: S,
    name: String,
    mut file: Option<FileWatch>,
    publish: &watch::Sender<State>,
    mut rejections: mpsc::Receiver<u64>,
) {
    let mut generation = 0;
    let mut failures = 0;
    let mut forced = None;
    loop {
        let next = match fetch_once(&source).await {
            Ok(token) => {
                generation += 1;
                failures = 0;
                let renewal = schedule::renewal(token.lifetime(), fastrand::f64());
                tracing::info!(
                    credential = name,
                    lifetime_s = token.lifetime().as_secs(),
                    renewal_in_s = renewal.as_secs(),
                    "token fetched"
                );
                publish.send_replace(held(&token, generation, forced));
                Instant::now() + renewal
            }
            Err(error) => {
                failures += 1;
                let backoff = schedule::backoff(failures, token_left(publish), fastrand::f64());
                let failing = Failing {
                    cause: error.to_string(),
                    next_attempt: Instant::now() + backoff,
                    for_good: error.is_for_good(),
                };
                tracing::warn!(
                    credential = name,
                    cause = failing.cause,
                    for_good = failing.for_good,
                    retry_in_ms = backoff.as_millis(),
                    "no token could be fetched"
                );
                let next_attempt = failing.next_attempt;
                let given_up = readiness::is_given_up(failing.for_good, failures);
                publish.send_modify(|state| state.fail(failing, given_up));
                next_attempt
            }
        };
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                content = changed_if_any(&mut file) => match source.reload(&content) {
                    Ok(changed) => {
                        tracing::info!(credential = name, "the credential's file changed: taken up");
                        source = changed;
                        break;
                    }
                    Err(cause) => {
                        tracing::warn!(
                            credential = name, cause,
                            "the credential's file changed and is broken: the old one stays in use"
                        );
                    }
                },
                rejected = rejections.recv() => match rejected {
                    None => return,
                    Some(rejected) if rejected == generation && may_force(forced) => {
                        tracing::warn!(credential = name, "Google rejected the token: fetching another");
                        forced = Some(Instant::now());
                        break;
                    }
                    Some(_) => {}
                },
            }
        }
    }
}

/// Whether a rejection may cause a fetch now, after the one at `forced`.
pub(super) fn may_force(forced: Option<Instant>) -> bool {
    forced.is_none_or(|at| at.elapsed() >= FORCED_PAUSE)
}

fn held(token: &Token, generation: u64, forced: Option<Instant>) -> State {
    let quota_project = token.quota_project().cloned();
    let authorization = Authorization { header: token.header(), quota_project, generation };
    let token = Held { authorization, ends: Instant::now() + token.lifetime(), forced };
    State::Held { token, failing: None }
}

fn token_left(publish: &watch::Sender<State>) -> Duration {
    match &*publish.borrow() {
        State::Held { token, .. } => token.ends.saturating_duration_since(Instant::now()),
        State::Starting | State::Without { .. } => Duration::ZERO,
    }
}

impl State {
    /// The start of the service has waited long enough; `false` when there is no need to say so.
    fn give_up(&mut self) -> bool {
        match self {
            Self::Held { .. } | Self::Without { given_up: true, .. } => false,
            Self::Without { given_up, .. } => {
                *given_up = true;
                true
            }
            Self::Starting => {
                let cause = format!("no token has come within {:?}", readiness::PATIENCE);
                // The first attempt is under way, so that its outcome is worth waiting for.
                let now = Instant::now();
                let failing = Failing { cause, next_attempt: now, for_good: false };
                *self = Self::Without { failing, since: now, given_up: true };
                true
            }
        }
    }

    /// Once given up, it stays so until there is a token: the start of the service is over by then.
    fn fail(&mut self, failed: Failing, give_up: bool) {
        match self {
            Self::Held { failing, .. } => *failing = Some(failed),
            Self::Starting => {
                *self = Self::Without { failing: failed, since: Instant::now(), given_up: give_up };
            }
            Self::Without { failing, given_up, since: _ } => {
                *failing = failed;
                *given_up |= give_up;
            }
        }
    }
}

#[cfg(test)]
mod tests;
