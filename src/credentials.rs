//! Who we are to Google: a token that is always ready.
//!
//! One background task a credential ([`refresher`]) fetches each token before the one in use ends and
//! hands it on through a watch channel; a call only reads the latest. Where a token comes from is said by a
//! [`Definition`] and made a [`Source`], whose `chain` leads from a credential of whatever kind to the account
//! that calls are made as; `answer` judges what is answered on the way. Nothing here is ever printed:
//! tokens and keys live in types without `Debug` or `Display` of their content.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use http::HeaderValue;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::file_watch::FileWatch;

mod answer;
mod ask;
mod authorised_user;
mod bridge;
mod chain;
mod definition;
mod external_account;
mod impersonation;
mod metadata_server;
mod refresher;
mod safe_url;
mod schedule;
mod secret_json;
mod service_account;
mod source;
mod subject_token;
mod surroundings;
mod token;

#[cfg(test)]
mod testing;

pub use definition::{Definition, Kind, Origin, SourceError};
pub use source::Source;
pub use surroundings::{IAM_CREDENTIALS, Surroundings};
pub use token::{FetchError, Token, TokenSource, fetch_once};

/// The scope of the Android Management API (its discovery document, `auth.oauth2.scopes`).
pub const SCOPE: &str = "https://www.googleapis.com/auth/androidmanagement";

/// A credential in use. Cheap to clone.
#[derive(Clone)]
pub struct Credential {
    state: watch::Receiver<State>,
    rejected: mpsc::Sender<u64>,
}

/// What the refresher says.
#[derive(Clone)]
enum State {
    /// The first fetch is under way.
    Starting,
    /// There was a token, which may have ended since; the latest fetch may have failed.
    Held { token: Held, failing: Option<Failing> },
    /// There has never been one.
    Without { failing: Failing },
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

/// The value of an `authorization` header, marked so that no layer prints or indexes it.
#[derive(Clone)]
pub struct Authorization {
    header: HeaderValue,
    quota_project: Option<HeaderValue>,
    generation: u64,
}

/// No token can be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// The time until the next attempt.
    pub retry_after: Duration,
}

/// What readiness says of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// There is a valid token.
    Ready,
    /// There is none: why, for the operator.
    NotReady(String),
}

impl Authorization {
    /// The header's value, `Bearer …`, which prints as `Sensitive`.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The value of `x-goog-user-project`, for a credential whose calls are counted against the quota of a
    /// project other than its own: a person's login has none.
    #[must_use]
    pub fn quota_project(&self) -> Option<&HeaderValue> {
        self.quota_project.as_ref()
    }

    /// A text by somebody who was sent the header, without the token, should it be quoted there.
    #[must_use]
    pub fn left_out_of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // The token alone: it may be quoted without the scheme.
        let token = self.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        match token {
            Some(token) if text.contains(token) => Cow::Owned(text.replace(token, "[left out]")),
            _ => Cow::Borrowed(text),
        }
    }
}

impl Credential {
    /// Starts the background task that keeps a token of `source` ready, and takes up changes of `file`,
    /// which none has that is not read from one. The task ends when the last clone of the credential is dropped, and not before.
    pub fn start(source: impl TokenSource, name: String, file: Option<PathBuf>) -> (Self, JoinHandle<()>) {
        let (publish, state) = watch::channel(State::Starting);
        let (rejected, rejections) = mpsc::channel(16);
        let file = file.map(FileWatch::new);
        let task = tokio::spawn(refresher::run(source, name, file, publish, rejections));
        (Self { state, rejected }, task)
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

    /// Waits for a readiness other than `known`, and answers it. A change that came before the wait began
    /// is answered at once, so that none is missed.
    pub async fn readiness_after(&mut self, known: &Readiness) -> Readiness {
        loop {
            let (now, ends) = {
                let state = self.state.borrow_and_update();
                let now = state.readiness();
                let ends = match (&now, &*state) {
                    (Readiness::Ready, State::Held { token, .. }) => Some(token.ends),
                    _ => None,
                };
                (now, ends)
            };
            if now != *known {
                return now;
            }
            let end = async {
                match ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { std::future::pending().await },
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
        let failing = match self {
            Self::Held { token, .. } if token.is_valid() && wanted(&token.authorization) => {
                return Some(Ok(token.authorization.clone()));
            }
            Self::Starting => None,
            Self::Held { failing, .. } => failing.as_ref(),
            Self::Without { failing } => Some(failing),
        };
        let retry_after = failing?.next_attempt.saturating_duration_since(Instant::now());
        // An attempt that is due is under way: its outcome is worth waiting for.
        (!retry_after.is_zero()).then_some(Err(Unavailable { retry_after }))
    }

    fn readiness(&self) -> Readiness {
        match self {
            Self::Held { token, .. } if token.is_valid() => Readiness::Ready,
            Self::Starting => Readiness::NotReady("the first token has not arrived yet".to_owned()),
            Self::Held { failing: None, .. } => Readiness::NotReady("the token has ended".to_owned()),
            Self::Held { failing: Some(failing), .. } | Self::Without { failing } => {
                Readiness::NotReady(format!("no valid token: {}", failing.cause))
            }
        }
    }
}
