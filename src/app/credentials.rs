//! Starts the credentials, and reports their state to health and the log.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    amapi::settings::Upstream,
    background::Background,
    credentials::{
        Credential, Credentials, LoadedCredential, Readiness, Surroundings, settings::CredentialConfig,
    },
    http_client::{Authorities, ProxySettings},
    serving::Serving,
};

/// Starts every credential. The first token of each is being fetched when this returns.
pub(super) fn start(
    credentials: impl IntoIterator<Item = (CredentialConfig, LoadedCredential)>,
    upstream: &Upstream,
    authorities: &Authorities,
    proxy: &ProxySettings,
    background: &Background,
) -> Arc<Credentials> {
    let iam = upstream.iam_credentials_url.url().clone();
    let surroundings = Arc::new(Surroundings::new(authorities.clone(), proxy.clone(), iam));
    let started = credentials.into_iter().map(|(settings, loaded)| {
        let CredentialConfig { name, definition: _, enterprises } = settings;
        (Credential::start(&name, loaded, &surroundings, background), enterprises)
    });
    Arc::new(Credentials::new(started))
}

/// Reports each change of readiness to health and the log. Never returns.
pub(super) async fn report(credentials: &Credentials, serving: &watch::Sender<Serving>) {
    let change =
        async |index, credential: &Credential, known| (index, credential.readiness_after(known).await);
    let list: Vec<&Credential> = credentials.iter().collect();
    let mut known = vec![Readiness::Starting; list.len()];
    let mut changes: FuturesUnordered<_> =
        list.iter().enumerate().map(|(index, credential)| change(index, credential, known[index])).collect();
    while let Some((index, readiness)) = changes.next().await {
        let credential = list[index];
        known[index] = readiness;
        changes.push(change(index, credential, readiness));
        log_readiness(credential, readiness);
        publish(Readiness::are_enough(&known), serving);
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
