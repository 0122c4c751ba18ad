//! Which authorities are believed: the public ones that Mozilla keeps, and beside them those of a file.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::RootCertStore;
use tokio::sync::watch;

use super::tls::TlsError;
use crate::{background::Background, file_watch::FileWatch, pem};

/// The authorities in force, which change when their file does. A broken version is reported, once for all
/// who ask here, and the old one stays: for a client that is made later, too.
#[derive(Debug, Clone)]
pub struct Authorities {
    active: watch::Receiver<Arc<RootCertStore>>,
    background: Background,
}

impl Authorities {
    /// The public ones alone.
    #[must_use]
    pub fn public() -> Self {
        let (_, active) = watch::channel(Arc::new(public()));
        Self { active, background: Background::unsupervised() }
    }

    /// Those of `file`, if there is one, beside the public ones. What it changes to is taken up by a task
    /// that ends with the last who asks.
    ///
    /// # Errors
    ///
    /// The certificates of `file` cannot be read or trusted.
    pub fn of(file: Option<&Path>, background: &Background) -> Result<Self, TlsError> {
        let Some(file) = file else { return Ok(Self::public()) };
        let unreadable =
            |error: io::Error| TlsError::Unreadable { file: file.to_owned(), cause: Arc::new(error) };
        let (watch, content) = FileWatch::open(file).map_err(unreadable)?;
        let (publish, active) = watch::channel(Arc::new(with(file, &content)?));
        background.spawn("trusted certificates reload", follow(file.to_owned(), watch, publish));
        Ok(Self { active, background: background.clone() })
    }

    /// The starter of the tasks that follow a change.
    pub(super) fn background(&self) -> &Background {
        &self.background
    }

    /// Whether there is a file that could change.
    pub(super) fn may_change(&self) -> bool {
        // An error says that nobody is left who could tell of a change.
        self.active.has_changed().is_ok()
    }

    /// Those in force now.
    pub(super) fn active(&mut self) -> Arc<RootCertStore> {
        Arc::clone(&self.active.borrow_and_update())
    }

    /// Waits for others than those that [`Self::active`] last answered. Never returns when none can come.
    pub(super) async fn changed(&mut self) {
        if self.active.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

async fn follow(file: PathBuf, mut watch: FileWatch, publish: watch::Sender<Arc<RootCertStore>>) {
    loop {
        let content = tokio::select! {
            content = watch.changed() => content,
            () = publish.closed() => return,
        };
        match with(&file, &content) {
            Ok(roots) => {
                tracing::info!(file = %file.display(), "the trusted certificates changed: taken up");
                publish.send_replace(Arc::new(roots));
            }
            Err(error) => {
                tracing::warn!(%error, "the trusted certificates changed and are broken: the old ones stay in use");
            }
        }
    }
}

fn public() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The public ones and those of `file`.
fn with(file: &Path, content: &[u8]) -> Result<RootCertStore, TlsError> {
    let certificates = pem::certificates(content)
        .map_err(|cause| TlsError::NoCertificates { file: file.to_owned(), cause })?;
    let mut roots = public();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Untrustable { file: file.to_owned(), cause: error.to_string() })?;
    }
    Ok(roots)
}
