//! Google credentials: each keeps a valid access token ready.
//!
//! A [`Definition`] is loaded into a `chain` of accounts, from which a background task ([`refresher`]) fetches each
//! token before the current one ends. Calls read the latest token from a watch channel. Secrets have types without
//! `Debug` or `Display`.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{background::Background, file_watch::FileWatch, telemetry::metrics::ReloadKind};

mod application_default;
mod authorized_user;
mod chain;
mod credential_file;
mod definition;
mod external_account;
mod google_cloud;
mod impersonation;
mod metadata_server;
mod redact;
mod refresher;
mod request;
mod response;
mod routing;
mod schedule;
mod service_account;
pub mod settings;
mod status;
mod subject_token;
mod surroundings;
mod token;
mod yup_connector;

#[cfg(test)]
mod testing;

pub use definition::{CredentialFileError, Definition, Kind, LoadedCredential, Origin};
pub use google_cloud::Machine;
pub use redact::Redactor;
pub use routing::{CredentialSet, Credentials, Pattern};
pub use status::{CredentialStatus, Readiness};
pub use surroundings::{IAM_CREDENTIALS, Surroundings};
pub use token::{Authorization, FetchError, FetchErrorKind, Secret, Token, TokenService, TokenSource};

/// The scope of the Android Management API (its discovery document, `auth.oauth2.scopes`).
pub const SCOPE: &str = "https://www.googleapis.com/auth/androidmanagement";

/// A credential in use. Cheap to clone.
#[derive(Clone)]
pub struct Credential(Arc<CredentialHandle>);

struct CredentialHandle {
    name: Arc<str>,
    status: watch::Receiver<CredentialStatus>,
    rejected: mpsc::Sender<u64>,
    redefinitions: mpsc::UnboundedSender<LoadedCredential>,
}

/// No token can be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// The time until the next attempt.
    pub retry_after: Duration,
}

impl Credential {
    /// Starts the background task that keeps a token ready and reloads the file when it changes. The task ends when the
    /// last clone of the credential is dropped.
    #[must_use]
    pub fn start(
        name: &str,
        loaded: LoadedCredential,
        surroundings: &Arc<Surroundings>,
        background: &Background,
    ) -> Self {
        let (source, file) = loaded.into_source(Arc::clone(surroundings));
        Self::with_source(name, source, file, background)
    }

    /// As [`Self::start`], with any source of tokens and the file that the task reloads.
    #[must_use]
    pub fn with_source(
        name: &str,
        source: impl TokenSource,
        file: Option<FileWatch>,
        background: &Background,
    ) -> Self {
        let project = source.project();
        let (publish, status) = watch::channel(CredentialStatus { project, ..CredentialStatus::default() });
        let (rejected, rejections) = mpsc::channel(16);
        let (redefinitions, redefined) = mpsc::unbounded_channel();
        let reloads = background.reloads(ReloadKind::Credential);
        let requests = refresher::Requests { rejections, redefined };
        let task = refresher::run(source, name.to_owned(), file, publish, requests, reloads);
        // A reload may drop the credential, and the task then returns. Only a panic is a defect.
        let guard = background.guard("token refresh");
        tokio::spawn(async move {
            let _guard = guard;
            task.await;
        });
        Self(Arc::new(CredentialHandle { name: name.into(), status, rejected, redefinitions }))
    }

    /// The name of the credential in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The id of the Google project whose quota the calls count against. `None` if it is unknown. A reload may change it,
    /// together with the token.
    #[must_use]
    pub fn project(&self) -> Option<Arc<str>> {
        self.0.status.borrow().project.clone()
    }

    /// Whether `other` is a clone of this credential.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Changes the definition. The token before stays in use until the new definition gives one.
    pub fn redefine(&self, loaded: LoadedCredential) {
        // The task ends only with the runtime, as long as this credential lives.
        let _ = self.0.redefinitions.send(loaded);
    }

    /// The current state.
    #[must_use]
    pub fn status(&self) -> CredentialStatus {
        self.0.status.borrow().clone()
    }

    /// The authorization of a valid token. Waits while the token is being fetched and there is no valid one.
    ///
    /// # Errors
    ///
    /// The latest fetch failed and there is no valid token.
    pub async fn authorization(&self) -> Result<Authorization, Unavailable> {
        self.next(|_| true).await
    }

    /// The authorization of a newer token than `rejected`, which Google did not accept. Concurrent callers share one
    /// fetch. `None` when `rejected` was itself fetched because of a rejection moments ago: Google would also reject
    /// the next token.
    ///
    /// # Errors
    ///
    /// As for [`Self::authorization`].
    pub async fn renewed(&self, rejected: &Authorization) -> Result<Option<Authorization>, Unavailable> {
        let is_too_soon = self.0.status.borrow().token.as_ref().is_some_and(|token| {
            token.authorization.generation == rejected.generation && !refresher::may_force(token.forced)
        });
        if is_too_soon {
            return Ok(None);
        }
        // If the channel is full, this rejection is dropped: one queued rejection of a token is enough.
        let _ = self.0.rejected.try_send(rejected.generation);
        self.next(|token| token.generation > rejected.generation).await.map(Some)
    }

    async fn next(&self, is_wanted: impl Fn(&Authorization) -> bool) -> Result<Authorization, Unavailable> {
        // A valid token is returned without a clone of the receiver.
        if let Some(result) = self.0.status.borrow().authorization(&is_wanted) {
            return result;
        }
        let mut status = self.0.status.clone();
        loop {
            if let Some(result) = status.borrow_and_update().authorization(&is_wanted) {
                return result;
            }
            if status.changed().await.is_err() {
                // The refresher lives as long as a credential does, unless the runtime is shutting down.
                return Err(Unavailable { retry_after: Duration::from_secs(1) });
            }
        }
    }

    /// Waits for a readiness other than `known`, and returns it. A change before the wait is returned at once.
    pub async fn readiness_after(&self, known: Readiness) -> Readiness {
        let mut status = self.0.status.clone();
        loop {
            let (now, token_left) = {
                let status = status.borrow_and_update();
                (status.readiness(), status.token_left())
            };
            if now != known {
                return now;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { std::future::pending().await },
                () = sleep(token_left), if now == Readiness::Ready => {}
            }
        }
    }
}
