//! TLS on the TCP listeners: the handshake, by files that are taken up again when they change.
//!
//! Sessions are never resumed. Connections are kept, so that resuming would spare next to nothing; and a
//! client whose certificate has expired, or whose authority is no longer believed, would get in by one.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::file_watch::FileWatch;

mod files;
mod validity;

pub use files::{File, FileError, Files, Loaded};
pub use validity::Validity;

/// How long a change that makes no sense by itself may wait for its other half, before it is reported: a
/// certificate and its key are two files, and a file is looked at every two seconds.
const OTHER_HALF: Duration = Duration::from_secs(10);

/// How often a certificate that ends soon is told.
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// HTTP/2, as ALPN names it (RFC 9113, section 3.1).
const H2: &[u8] = b"h2";

/// What accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Reads `files`, and takes them up again whenever they change, by a task that ends with the last clone.
    /// A version that is broken is reported, and the old one stays.
    ///
    /// # Errors
    ///
    /// See [`Files::load`]; the text names the setting.
    pub fn start(files: Files) -> io::Result<Self> {
        // First, so that what changes while the files are read is seen.
        let watches = Watches::of(&files);
        let loaded = files.load().map_err(io::Error::other)?;
        warn(&files, &loaded);
        let current = Arc::new(ArcSwap::new(Arc::clone(&loaded.config)));
        tokio::spawn(follow(Arc::downgrade(&current), files, watches, loaded));
        Ok(Self(current))
    }

    /// Shakes hands, and tells the verified certificate of the client, the leaf alone, if it had to show one.
    ///
    /// # Errors
    ///
    /// The client does not speak TLS, or not by our rules; or it does not name `h2` by ALPN, as HTTP/2 over
    /// TLS must (RFC 9113, section 3.2).
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<CertificateDer<'static>>)> {
        let stream = TlsAcceptor::from(self.0.load_full()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("the client did not ask for h2 by ALPN"));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.map(|leaf| leaf.clone().into_owned());
        Ok((stream, leaf))
    }
}

/// What is watched.
struct Watches {
    certificate: FileWatch,
    private_key: FileWatch,
    client_ca: Option<FileWatch>,
}

impl Watches {
    fn of(files: &Files) -> Self {
        let watch = |file: &PathBuf| FileWatch::new(file.clone());
        Self {
            certificate: watch(&files.certificate),
            private_key: watch(&files.private_key),
            client_ca: files.client_ca.as_ref().map(watch),
        }
    }

    /// Waits for any of them to change.
    async fn changed(&mut self) {
        let Self { certificate, private_key, client_ca } = self;
        let client_ca = async {
            match client_ca {
                Some(file) => drop(file.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = certificate.changed() => {}
            _ = private_key.changed() => {}
            () = client_ca => {}
        }
    }
}

/// Takes up the files when they change.
async fn follow(
    current: Weak<ArcSwap<ServerConfig>>,
    files: Files,
    mut watches: Watches,
    mut in_force: Loaded,
) {
    let mut pending: Option<FileError> = None;
    loop {
        tokio::select! {
            () = watches.changed() => {}
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
        let to_load = files.clone();
        // It ends in error only when the runtime does.
        let Ok(loaded) = tokio::task::spawn_blocking(move || to_load.load()).await else { return };
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
fn warn(files: &Files, loaded: &Loaded) {
    let certificate = files.certificate.display();
    match loaded.validity.at(SystemTime::now()) {
        validity::State::Fresh => {}
        validity::State::EndsSoon { days_left } => {
            tracing::warn!(%certificate, days_left, "the TLS certificate ends soon");
        }
        validity::State::Expired => {
            tracing::error!(%certificate, expired_at = %loaded.validity.end(),
                "the TLS certificate has expired: clients will refuse it");
        }
        validity::State::NotYet => {
            tracing::error!(%certificate, "the TLS certificate is not valid yet: clients will refuse it");
        }
    }
    if loaded.key_is_public {
        let private_key = files.private_key.display();
        tracing::warn!(%private_key, "the TLS private key can be read by every user of this machine");
    }
}

#[cfg(test)]
mod tests;
