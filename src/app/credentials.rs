//! Starts the credentials, and reports their state to health and the log.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    amapi::settings::Upstream,
    background::Background,
    credentials::{
        Credential, CredentialSet, Credentials, LoadedCredential, Readiness, Surroundings,
        settings::CredentialConfig,
    },
    http_client::{Authorities, ProxySettings},
    serving::Serving,
    telemetry::metrics::CredentialReading,
};

/// The credentials, and what starting further ones takes.
pub(super) struct CredentialPool {
    pub(super) credentials: Arc<Credentials>,
    surroundings: Arc<Surroundings>,
    background: Background,
    /// The settings of the active credentials.
    settings: Mutex<Vec<CredentialConfig>>,
}

impl CredentialPool {
    /// Starts every credential. The first token of each is being fetched when this returns.
    pub(super) fn start(
        credentials: Vec<(CredentialConfig, LoadedCredential)>,
        upstream: &Upstream,
        authorities: &Authorities,
        proxy: &ProxySettings,
        background: &Background,
    ) -> Self {
        let iam = upstream.iam_credentials_url.url().clone();
        let surroundings = Arc::new(Surroundings::new(authorities.clone(), proxy.clone(), iam));
        let settings = credentials.iter().map(|(settings, _)| settings.clone()).collect();
        let set = CredentialSet::new(credentials.into_iter().map(|(settings, loaded)| {
            let CredentialConfig { name, definition: _, enterprises } = settings;
            (Credential::start(&name, loaded, &surroundings, background), enterprises)
        }));
        let credentials = Arc::new(Credentials::new(set));
        Self { credentials, surroundings, background: background.clone(), settings: Mutex::new(settings) }
    }

    /// Replaces the credentials if their settings differ, and returns whether they do. A credential with the name of an
    /// active one keeps its token. If its definition differs, the token stays in use until the new definition gives one.
    pub(super) fn replace(&self, credentials: Vec<(CredentialConfig, LoadedCredential)>) -> bool {
        let mut active_settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let settings: Vec<_> = credentials.iter().map(|(settings, _)| settings.clone()).collect();
        if *active_settings == settings {
            return false;
        }
        let active = self.credentials.active();
        let set = CredentialSet::new(credentials.into_iter().map(|(settings, loaded)| {
            let CredentialConfig { name, definition, enterprises } = settings;
            let known = active_settings.iter().find(|known| known.name == name);
            let kept = active.iter().find(|active| **active.name() == *name);
            let credential = match (kept, known) {
                (Some(kept), Some(known)) => {
                    if known.definition != definition {
                        kept.redefine(loaded);
                    }
                    kept.clone()
                }
                _ => Credential::start(&name, loaded, &self.surroundings, &self.background),
            };
            (credential, enterprises)
        }));
        *active_settings = settings;
        self.credentials.replace(set);
        true
    }
}

/// The values of a credential for the metrics.
pub(super) fn reading(credential: &Credential) -> CredentialReading {
    let status = credential.status();
    let (successes, failures) = status.fetch_counts();
    CredentialReading {
        name: credential.name().to_string(),
        token: status.token_times(),
        successes,
        failures,
        is_usable: status.readiness() == Readiness::Ready,
    }
}

/// Reports each change of readiness to health and the log. Never returns.
pub(super) async fn report(credentials: &Credentials, serving: &watch::Sender<Serving>) {
    let mut replacements = credentials.replacements();
    let mut known = Vec::new();
    let mut is_first = true;
    loop {
        replacements.borrow_and_update();
        let active = credentials.active();
        let before = std::mem::take(&mut known);
        known =
            active.iter().map(|credential| (credential.clone(), readiness_in(&before, credential))).collect();
        // The tasks of the credentials that were removed end here.
        drop(before);
        drop(active);
        tokio::select! {
            () = report_set(&mut known, is_first, serving) => {}
            _ = replacements.changed() => is_first = false,
        }
    }
}

/// The readiness that was reported of a credential.
fn readiness_in(known: &[(Credential, Readiness)], credential: &Credential) -> Readiness {
    let found = known.iter().find(|(known, _)| known.is_same(credential));
    found.map_or(Readiness::Starting, |(_, readiness)| *readiness)
}

/// Reports the changes of a set of credentials. Never returns. Only the first set delays the readiness of the process
/// until each credential had its first attempt.
async fn report_set(known: &mut [(Credential, Readiness)], is_first: bool, serving: &watch::Sender<Serving>) {
    if !is_first {
        // A set that replaces another may differ in its readiness before any of its credentials changes.
        publish(known.iter().any(|(_, readiness)| *readiness == Readiness::Ready), serving);
    }
    let change =
        async |index, credential: Credential, known| (index, credential.readiness_after(known).await);
    let mut changes: FuturesUnordered<_> = known
        .iter()
        .enumerate()
        .map(|(index, (credential, readiness))| change(index, credential.clone(), *readiness))
        .collect();
    while let Some((index, now)) = changes.next().await {
        let (credential, readiness) = &mut known[index];
        *readiness = now;
        changes.push(change(index, credential.clone(), now));
        log_readiness(credential, now);
        let states: Vec<_> = known.iter().map(|(_, readiness)| *readiness).collect();
        let ready =
            if is_first { Readiness::are_enough(&states) } else { states.contains(&Readiness::Ready) };
        publish(ready, serving);
    }
    // Reached only without a credential, which the configuration refuses.
    std::future::pending().await
}

fn log_readiness(credential: &Credential, readiness: Readiness) {
    let (name, status) = (&**credential.name(), credential.status());
    match readiness {
        Readiness::NotReady if status.readiness() == Readiness::NotReady => tracing::error!(
            credential = name,
            cause = status.cause(),
            permanent = status.is_permanent(),
            "no valid token: calls to the enterprises of this credential are refused as UNAVAILABLE"
        ),
        Readiness::Ready => {
            tracing::info!(credential = name, "there is a valid token: the credential is in use");
        }
        // The state has changed since. The next iteration reports it.
        Readiness::NotReady | Readiness::Starting => {}
    }
}

fn publish(ready: bool, serving: &watch::Sender<Serving>) {
    let now = if ready { Serving::Ready } else { Serving::NotReady };
    match serving.send_replace(now) {
        before if before == now => {}
        _ if ready => tracing::info!("serving"),
        _ => tracing::error!("not serving: no credential has a valid token"),
    }
}
