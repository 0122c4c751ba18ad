//! The credentials: made, supervised, and told of.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use super::StartError;
use crate::{
    amapi::settings::Upstream,
    background::Background,
    credentials::{
        Credential, Credentials, Readiness, Source, Standing, Surroundings, settings::CredentialConfig,
    },
    http_client::Authorities,
    serving::Serving,
};

/// Starts every credential; the first token of each is being fetched when this returns.
///
/// # Errors
///
/// What the configuration checked is no longer so.
pub(super) fn start(
    credentials: &[CredentialConfig],
    upstream: &Upstream,
    authorities: &Authorities,
    background: &Background,
) -> Result<Arc<Credentials>, StartError> {
    let iam = upstream.iam_credentials_url.url().clone();
    let surroundings = Arc::new(Surroundings::new(authorities.clone(), iam));
    // All are read before any is started: a start that fails asks nobody for a token.
    let sources = credentials.iter().map(|credential| {
        let CredentialConfig { name, definition, enterprises: _ } = credential;
        Source::watched(definition, &surroundings)
            .map_err(|cause| StartError::Credential { name: name.clone(), cause })
    });
    let sources = sources.collect::<Result<Vec<_>, _>>()?;

    let started = credentials.iter().zip(sources).map(|(credential, (source, file))| {
        let CredentialConfig { name, definition: _, enterprises } = credential;
        let credential = Credential::start(source, name.clone(), file, background);
        (credential, enterprises.clone())
    });
    Ok(Arc::new(Credentials::new(started)))
}

/// Tells health and the log what becomes of the credentials. Never returns.
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
        tell_of(credential, readiness);
        tell(Readiness::are_enough(&known), serving);
    }
    // Only without a credential, which the configuration does not let happen, is there nothing to wait for.
    std::future::pending().await
}

/// The line of a credential whose readiness has changed.
fn tell_of(credential: &Credential, readiness: Readiness) {
    let name = &**credential.name();
    match (readiness, credential.standing()) {
        (Readiness::NotReady, Standing::Without { since: _, cause, for_good }) => tracing::error!(
            credential = name,
            cause,
            for_good,
            "no valid token: calls to the enterprises of this credential are refused as UNAVAILABLE"
        ),
        (Readiness::Ready, _) => {
            tracing::info!(credential = name, "there is a valid token: the credential is in use");
        }
        // It has changed again meanwhile, of which the next turn tells.
        (Readiness::NotReady | Readiness::Starting, _) => {}
    }
}

fn tell(ready: bool, serving: &watch::Sender<Serving>) {
    let now = if ready { Serving::Ready } else { Serving::NotReady };
    match serving.send_replace(now) {
        before if before == now => {}
        _ if ready => tracing::info!("serving"),
        _ => tracing::error!("not serving: no credential has a valid token"),
    }
}
