//! The trusted root certificates: the public roots (Mozilla's), and the certificates of a file.

use std::{path::PathBuf, sync::Arc};

use rustls::RootCertStore;
use tokio::sync::watch;

use super::tls::TlsError;
use crate::{
    background::Background,
    file_watch::FileWatch,
    pem,
    telemetry::metrics::{ReloadCounter, ReloadKind},
};

/// The public roots and the certificates of a file, before their reload starts.
pub struct LoadedAuthorities {
    roots: Arc<RootCertStore>,
    file: Option<(PathBuf, FileWatch)>,
}

/// The active roots, reloaded when their file changes. An invalid version is logged once for all clients. The old
/// roots then stay active, also for a client that is built later.
#[derive(Debug, Clone)]
pub struct Authorities {
    active: watch::Receiver<Arc<RootCertStore>>,
    background: Background,
}

impl LoadedAuthorities {
    /// Reads `file`, if there is one. Blocks.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its certificates cannot be trusted.
    pub fn load(file: Option<PathBuf>) -> Result<Self, TlsError> {
        let Some(file) = file else { return Ok(Self { roots: Arc::new(public_roots()), file: None }) };
        let (watch, content) = FileWatch::open(&file)?;
        Ok(Self { roots: Arc::new(roots_with(&content)?), file: Some((file, watch)) })
    }

    /// Starts the task that reloads the roots when their file changes. The task ends when the last client is
    /// dropped.
    #[must_use]
    pub fn start(self, background: &Background) -> Authorities {
        let (publish, active) = watch::channel(self.roots);
        if let Some((file, watch)) = self.file {
            let reloads = background.reloads(ReloadKind::Authorities);
            background.spawn("trusted certificates reload", reload(file, watch, publish, reloads));
        }
        Authorities { active, background: background.clone() }
    }
}

impl Authorities {
    /// Only the public roots.
    #[must_use]
    pub fn public() -> Self {
        LoadedAuthorities { roots: Arc::new(public_roots()), file: None }.start(&Background::unsupervised())
    }

    /// The starter of the tasks that apply a change.
    pub(super) fn background(&self) -> &Background {
        &self.background
    }

    /// Whether the roots may change.
    pub(super) fn may_change(&self) -> bool {
        // An error means that no task reloads the roots.
        self.active.has_changed().is_ok()
    }

    /// The active roots.
    pub(crate) fn active(&mut self) -> Arc<RootCertStore> {
        Arc::clone(&self.active.borrow_and_update())
    }

    /// Waits until the roots differ from those that [`Self::active`] last returned. Never returns if the roots
    /// cannot change.
    pub(super) async fn changed(&mut self) {
        if self.active.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

async fn reload(
    file: PathBuf,
    mut watch: FileWatch,
    publish: watch::Sender<Arc<RootCertStore>>,
    mut reloads: ReloadCounter,
) {
    let file = file.display();
    loop {
        let content = tokio::select! {
            content = watch.changed() => content,
            () = publish.closed() => return,
        };
        match roots_with(&content) {
            Ok(roots) => {
                tracing::info!(%file, "reloaded the trusted certificates");
                publish.send_replace(Arc::new(roots));
                reloads.succeeded();
            }
            Err(error) => {
                reloads.failed();
                tracing::warn!(%file, %error, "failed to reload the trusted certificates: the old ones stay active");
            }
        }
    }
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The public roots and the certificates in `content`.
fn roots_with(content: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = public_roots();
    pem::add_roots(content, &mut roots)?;
    Ok(roots)
}
