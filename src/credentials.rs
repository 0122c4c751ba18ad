//! Who we are to Google: a token that is always ready.
//!
//! One background task a credential ([`refresher`]) fetches each token before the one in use ends and
//! hands it on through a watch channel; a call only reads the latest. Where a token comes from is said by a
//! [`Definition`] and made a [`Source`], whose `chain` leads from a credential of whatever kind to the account
//! that calls are made as; `answer` judges what is answered on the way. Nothing here is ever printed:
//! tokens and keys live in types without `Debug` or `Display` of their content.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{background::Background, file_watch::FileWatch};

mod answer;
mod application_default;
mod ask;
mod authorised_user;
mod authorization;
mod bridge;
mod chain;
mod definition;
mod external_account;
mod google_cloud;
mod impersonation;
mod metadata_server;
mod pattern;
mod readiness;
mod redactor;
mod refresher;
mod rfc3339;
mod routing;
mod safe_url;
mod schedule;
mod secret_json;
mod service_account;
pub mod settings;
mod source;
mod subject_token;
mod surroundings;
mod token;

#[cfg(test)]
mod testing;

pub use ask::Asked;
pub use authorization::Authorization;
pub use definition::{Definition, Kind, Origin, SourceError};
pub use google_cloud::Machine;
pub use pattern::Pattern;
pub use readiness::{Readiness, Standing};
pub use redactor::Redactor;
pub use routing::Credentials;
pub use source::Source;
pub use surroundings::{IAM_CREDENTIALS, Surroundings};
pub use token::{FetchError, Token, TokenSource, fetch_once};

/// The scope of the Android Management API (its discovery document, `auth.oauth2.scopes`).
pub const SCOPE: &str = "https://www.googleapis.com/auth/androidmanagement";

/// A credential in use. Cheap to clone.
#[derive(Clone)]
pub struct Credential {
    name: Arc<str>,
    state: watch::Receiver<State>,
    rejected: mpsc::Sender<u64>,
}

/// What the refresher says.
#[derive(Clone)]
enum State {
    /// The first fetch is under way.
    Starting,
    /// There was a token, which may have ended since; the latest fetch may have failed, and so may that by
    /// what the file has `changed` to, which is not in force before it gives a token.
    Held { token: Held, failing: Option<Failing>, changed: Option<Failing> },
    /// There has never been one since the first attempt failed; `given_up` when the start of the service no
    /// longer waits for it.
    Without { failing: Failing, since: Instant, given_up: bool },
}

/// A token in use.
#[derive(Clone)]
struct Held {
    authorization: Authorization,
    ends: Instant,
    /// When it, or one before it, was last fetched because Google had rejected its predecessor.
    forced: Option<Instant>,
}

/// The latest fetch failed.
#[derive(Clone)]
struct Failing {
    cause: String,
    next_attempt: Instant,
    /// More of the same would be refused likewise: the credential has to be mended.
    for_good: bool,
}

/// No token can be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// The time until the next attempt.
    pub retry_after: Duration,
}

impl Credential {
    /// Starts the background task that keeps a token of `source` ready, and takes up changes of `file`,
    /// which none has that is not read from one. The task ends when the last clone of the credential is
    /// dropped, and not before.
    pub fn start(
        source: impl TokenSource,
        name: String,
        file: Option<FileWatch>,
        background: &Background,
    ) -> Self {
        let (publish, state) = watch::channel(State::Starting);
        let (rejected, rejections) = mpsc::channel(16);
        let known_as = name.as_str().into();
        background.spawn("token refresh", refresher::run(source, name, file, publish, rejections));
        Self { name: known_as, state, rejected }
    }

    /// What the configuration calls it.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The authorisation of a valid token: at once when there is one, as soon as it is there while one is
    /// being fetched.
    ///
    /// # Errors
    ///
    /// The latest fetch failed and no valid token is left.
    pub async fn authorization(&self) -> Result<Authorization, Unavailable> {
        self.next(|_| true).await
    }

    /// The authorisation of a token that is newer than `rejected`, which Google did not accept. All who
    /// met the same rejection share one fetch. `None` when the rejected one is itself the fruit of a
    /// rejection moments ago: another would fare no better.
    ///
    /// # Errors
    ///
    /// As for [`Self::authorization`].
    pub async fn renewed(&self, rejected: &Authorization) -> Result<Option<Authorization>, Unavailable> {
        let too_soon = match &*self.state.borrow() {
            State::Held { token, .. } => {
                token.authorization.generation == rejected.generation && !refresher::may_force(token.forced)
            }
            State::Starting | State::Without { .. } => false,
        };
        if too_soon {
            return Ok(None);
        }
        // A full channel holds rejections of the same token: one of them is enough.
        let _ = self.rejected.try_send(rejected.generation);
        self.next(|token| token.generation > rejected.generation).await.map(Some)
    }

    async fn next(&self, wanted: impl Fn(&Authorization) -> bool) -> Result<Authorization, Unavailable> {
        if let Some(answer) = self.state.borrow().answer(&wanted) {
            return answer;
        }
        let mut state = self.state.clone();
        loop {
            if let Some(answer) = state.borrow_and_update().answer(&wanted) {
                return answer;
            }
            if state.changed().await.is_err() {
                // The refresher lives as long as a credential does, unless the runtime is going down.
                return Err(Unavailable { retry_after: Duration::from_secs(1) });
            }
        }
    }

    /// Whether calls can be served now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.state.borrow().readiness()
    }

    /// What is to be told of it now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.state.borrow().standing()
    }

    /// Waits for a readiness other than `known`, and answers it. A change that came before the wait began
    /// is answered at once, so that none is missed.
    pub async fn readiness_after(&self, known: Readiness) -> Readiness {
        let mut state = self.state.clone();
        loop {
            let (now, ends) = {
                let state = state.borrow_and_update();
                let now = state.readiness();
                let ends = match (&now, &*state) {
                    (Readiness::Ready, State::Held { token, .. }) => Some(token.ends),
                    _ => None,
                };
                (now, ends)
            };
            if now != known {
                return now;
            }
            let end = async {
                match ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { std::future::pending().await },
                () = end => {}
            }
        }
    }
}

impl Held {
    fn is_valid(&self) -> bool {
        self.ends > Instant::now()
    }
}

impl State {
    /// What a caller gets now; `None` means that it waits for the fetch under way.
    fn answer(&self, wanted: impl Fn(&Authorization) -> bool) -> Option<Result<Authorization, Unavailable>> {
        let next_attempt = match self {
            Self::Held { token, .. } if token.is_valid() && wanted(&token.authorization) => {
                return Some(Ok(token.authorization.clone()));
            }
            Self::Starting => None,
            Self::Held { failing, changed, .. } => failing.as_ref().map(|failing| {
                let changed = changed.as_ref().map(|changed| changed.next_attempt);
                changed.map_or(failing.next_attempt, |changed| changed.min(failing.next_attempt))
            }),
            Self::Without { failing, .. } => Some(failing.next_attempt),
        };
        let retry_after = next_attempt?.saturating_duration_since(Instant::now());
        // An attempt that is due is under way: its outcome is worth waiting for.
        (!retry_after.is_zero()).then_some(Err(Unavailable { retry_after }))
    }
}
