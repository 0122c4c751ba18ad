//! The files of TLS, taken up again when they change.

use std::{
    io,
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::{
    FileError, Loaded,
    files::{Content, Each},
    validity::State,
};
use crate::{file_watch::FileWatch, server::settings::TlsFiles};

/// How long a change that makes no sense by itself may wait for its other half, before it is reported: a
/// certificate and its key are two files, and a file is looked at every two seconds.
const OTHER_HALF: Duration = Duration::from_secs(10);

/// How often a certificate that ends soon is told.
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// A file, and the content of it that last stayed for long enough. What else the file may hold now does not
/// count: one that is being written is not taken up with another that changed, and one that is away for a
/// moment keeps no other waiting.
pub(super) struct Watched {
    watch: FileWatch,
    content: Content,
}

impl Watched {
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        FileWatch::open(file).map(|(watch, content)| Self { watch, content })
    }

    async fn changed(&mut self) {
        self.content = self.watch.changed().await;
    }
}

impl Each<Watched> {
    /// Waits for any of them to change.
    pub(super) async fn changed(&mut self) {
        let Self { certificate, private_key, client_ca } = self;
        let client_ca = async {
            match client_ca {
                Some(client_ca) => client_ca.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = certificate.changed() => {}
            () = private_key.changed() => {}
            () = client_ca => {}
        }
    }

    /// What is to be checked together.
    pub(super) fn contents(&self) -> Each<Content> {
        let Self { certificate, private_key, client_ca } = self;
        Each {
            certificate: certificate.content.clone(),
            private_key: private_key.content.clone(),
            client_ca: client_ca.as_ref().map(|client_ca| client_ca.content.clone()),
        }
    }
}

/// Takes up the files when they change.
pub(super) async fn follow(
    current: Weak<ArcSwap<ServerConfig>>,
    files: TlsFiles,
    mut watched: Each<Watched>,
    mut in_force: Loaded,
) {
    let mut pending: Option<FileError> = None;
    loop {
        tokio::select! {
            () = watched.changed() => {}
            () = tokio::time::sleep(OTHER_HALF), if pending.is_some() => {
                if let Some(error) = pending.take() {
                    tracing::warn!(%error, "the TLS files changed and are broken: the old ones stay in use");
                }
                continue;
            }
            () = tokio::time::sleep(REMINDER) => {
                warn(&files, &in_force);
                continue;
            }
        }
        let (to_check, contents) = (files.clone(), watched.contents());
        // It ends in error only when the runtime does.
        let Ok(loaded) = tokio::task::spawn_blocking(move || to_check.check(&contents)).await else { return };
        let Some(current) = current.upgrade() else { return };
        match loaded {
            Ok(loaded) if loaded.fingerprint == in_force.fingerprint => pending = None,
            Ok(loaded) => {
                pending = None;
                current.store(Arc::clone(&loaded.config));
                let valid_until = loaded.validity.end();
                tracing::info!(%valid_until, "the TLS files changed: taken up for new connections");
                warn(&files, &loaded);
                in_force = loaded;
            }
            Err(error) => pending = Some(error),
        }
    }
}

/// Tells what will soon be, or already is, the operator's trouble.
///
/// An expired certificate is no reason not to serve, as little as it is to nginx and Envoy: clients refuse it
/// by themselves, and a restart must not make an outage of a renewal that is late, or of a wrong clock here.
pub(super) fn warn(files: &TlsFiles, loaded: &Loaded) {
    let certificate = files.certificate.display();
    match loaded.validity.at(SystemTime::now()) {
        State::Fresh { .. } => {}
        State::EndsSoon { days_left } => {
            tracing::warn!(%certificate, days_left, "the TLS certificate ends soon");
        }
        State::Expired => {
            tracing::error!(%certificate, expired_at = %loaded.validity.end(),
                "the TLS certificate has expired: clients will refuse it");
        }
        State::NotYet => {
            tracing::error!(%certificate, "the TLS certificate is not valid yet: clients will refuse it");
        }
    }
    if loaded.key_is_public {
        let private_key = files.private_key.display();
        tracing::warn!(%private_key, "the TLS private key can be read by every user of this machine");
    }
}
