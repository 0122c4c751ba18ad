//! TLS on the TCP listeners. The files are reloaded when they change.
//!
//! Sessions are never resumed. Connections are long-lived, so resumption would save little. A client whose
//! certificate has expired, or whose CA was removed, could still connect with a resumed session.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    cert_summary::{Validity, ValidityState},
    settings::TlsFiles,
};
use crate::{
    background::Background,
    file_watch::FileWatch,
    pem,
    telemetry::metrics::{ConnectionMetrics, ReloadCounter, ReloadKind},
};

/// HTTP/2 in ALPN (RFC 9113, section 3.1).
const H2: &[u8] = b"h2";

/// The time before an error of changed files is logged. A certificate and its key are two files, which may change
/// at different times.
const MISMATCH_GRACE: Duration = Duration::from_secs(10);

/// The interval between two warnings about a certificate that expires soon.
const REMINDER_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
    _reload: Arc<AbortOnDropHandle<()>>,
}

/// One of the files of [`TlsFiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// `certificate`.
    Certificate,
    /// `private_key`.
    PrivateKey,
    /// `client_ca`.
    ClientCa,
}

/// An error in a file. The text never quotes the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server.tls.{}: {problem}; {hint}", file.key())]
pub struct TlsFileError {
    /// The file.
    pub file: TlsFile,
    /// The error.
    pub problem: String,
    /// The hint for the operator.
    pub hint: &'static str,
}

/// The files, loaded, before their reload starts.
pub struct LoadedTls {
    files: TlsFiles,
    watched: PerFile<WatchedFile>,
    /// The valid content of the files.
    pub content: TlsContent,
}

/// The valid content of the files.
pub struct TlsContent {
    /// The configuration of rustls: TLS 1.2 and 1.3, `h2` only, no resumption.
    pub config: Arc<ServerConfig>,
    /// The validity of the server's certificate chain.
    pub validity: Validity,
    /// Whether every user of this machine may read the private key.
    pub key_is_public: bool,
    /// A digest of all contents.
    fingerprint: [u8; 32],
}

/// The content of a file.
type Content = Vec<u8>;

/// A value for each of the files.
struct PerFile<T> {
    certificate: T,
    private_key: T,
    client_ca: Option<T>,
}

impl Tls {
    /// Starts the task that reloads the files when they change. An invalid version is logged, and the old one stays
    /// active. The task is aborted when the last clone is dropped.
    #[must_use]
    pub fn start(loaded: LoadedTls, metrics: ConnectionMetrics, background: &Background) -> Self {
        let LoadedTls { files, watched, content } = loaded;
        warn(&files, &content);
        metrics.set_certificate_expiry(content.validity.end_seconds());
        let config = Arc::new(ArcSwap::new(Arc::clone(&content.config)));
        let reloads = background.reloads(ReloadKind::Tls);
        let task = reload(Arc::clone(&config), files, watched, content, metrics, reloads);
        let task = background.spawn("TLS file reload", task);
        Self { config, _reload: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// Performs the handshake. Returns the client's verified leaf certificate, if one is required.
    ///
    /// # Errors
    ///
    /// The handshake fails, or the client does not offer `h2` by ALPN, which HTTP/2 over TLS requires (RFC
    /// 9113, section 3.2).
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<CertificateDer<'static>>)> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("the client did not offer h2 by ALPN"));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.map(|leaf| leaf.clone().into_owned());
        Ok((stream, leaf))
    }
}

impl TlsFile {
    /// The key in `[server.tls]`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PrivateKey => "private_key",
            Self::ClientCa => "client_ca",
        }
    }

    fn error(self, problem: String) -> TlsFileError {
        let hint = match self {
            Self::Certificate => {
                "name a PEM file with the server's certificate and the intermediate certificates"
            }
            Self::PrivateKey => "name the PEM file with the certificate's private key, not encrypted",
            Self::ClientCa => "name a PEM file with the CA certificates of the clients",
        };
        TlsFileError { file: self, problem, hint }
    }
}

impl TlsFiles {
    /// Reads and checks the files completely, so that their errors do not fail later handshakes. Blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read or used, or the key does not belong to the certificate.
    pub fn load(self) -> Result<LoadedTls, Vec<TlsFileError>> {
        let watched = self.open()?;
        let content = self.check(&watched.contents())?;
        Ok(LoadedTls { files: self, watched, content })
    }

    fn open(&self) -> Result<PerFile<WatchedFile>, Vec<TlsFileError>> {
        let Self { certificate, private_key, client_ca } = self;
        let mut errors = Vec::new();
        let mut open = |file: TlsFile, path: &Path| {
            let opened = WatchedFile::open(path);
            opened.map_err(|error| errors.push(file.error(format!("cannot read the file: {error}")))).ok()
        };
        let certificate = open(TlsFile::Certificate, certificate);
        let private_key = open(TlsFile::PrivateKey, private_key);
        let client_ca = client_ca.as_ref().map(|path| open(TlsFile::ClientCa, path));
        match (certificate, private_key, client_ca) {
            (Some(certificate), Some(private_key), None) => {
                Ok(PerFile { certificate, private_key, client_ca: None })
            }
            (Some(certificate), Some(private_key), Some(Some(client_ca))) => {
                Ok(PerFile { certificate, private_key, client_ca: Some(client_ca) })
            }
            _ => Err(errors),
        }
    }

    /// Checks these contents of the files. Blocks.
    fn check(&self, contents: &PerFile<Content>) -> Result<TlsContent, Vec<TlsFileError>> {
        let Self { certificate: _, private_key, client_ca: _ } = self;
        let PerFile { certificate: chain, private_key: key, client_ca: roots } = contents;
        let mut digest = Context::new(&SHA256);
        for content in [chain, key].into_iter().chain(roots) {
            // The lengths separate the files in the digest.
            digest.update(&content.len().to_be_bytes());
            digest.update(content);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.finish().as_ref());

        let mut errors = Vec::new();
        let chain = pem::certificates(chain)
            .map_err(|error| format!("the file {error}"))
            .and_then(|chain| Validity::of_chain(&chain).map(|validity| (chain, validity)))
            .map_err(|problem| errors.push(TlsFile::Certificate.error(problem)));
        let key = signing_key(key).map_err(|error| errors.push(error));
        let verifier = client_verifier(roots.as_deref()).map_err(|error| errors.push(error));
        let (Ok((chain, validity)), Ok(key), Ok(verifier)) = (chain, key, verifier) else {
            return Err(errors);
        };
        let config = certified_key(chain, key).and_then(|key| server_config(key, verifier));
        Ok(TlsContent {
            config: Arc::new(config.map_err(|error| vec![error])?),
            validity,
            key_is_public: is_public(private_key),
            fingerprint,
        })
    }
}

/// The private key. The error texts of the libraries may quote the key file, so they are discarded.
fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, TlsFileError> {
    let key_error = |problem: &str| TlsFile::PrivateKey.error(format!("the file {problem}"));
    let key = PrivateKeyDer::from_pem_slice(pem);
    let key = key.map_err(|_| {
        let is_encrypted = pem.windows(9).any(|word| word == b"ENCRYPTED");
        key_error(if is_encrypted { "holds an encrypted key" } else { "holds no private key" })
    })?;
    any_supported_type(&key)
        .map_err(|_| key_error("holds an unsupported key: RSA, ECDSA and Ed25519 are supported"))
}

/// The certificate chain with its key.
fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<CertifiedKey, TlsFileError> {
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsFile::PrivateKey.error("the file is not the key of the certificate".to_owned()))
        }
        Err(error) => Err(TlsFile::Certificate.error(format!("the certificate cannot be used: {error}"))),
    }
}

fn client_verifier(client_ca: Option<&[u8]>) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let Some(pem) = client_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let unusable_ca = |error: &dyn std::error::Error| TlsFile::ClientCa.error(format!("the file {error}"));
    let mut roots = RootCertStore::empty();
    pem::add_roots(pem, &mut roots).map_err(|error| unusable_ca(&error))?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| unusable_ca(&error))
}

fn server_config(
    key: CertifiedKey,
    client_verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsFileError> {
    let provider = Arc::new(default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            TlsFile::Certificate.error(format!("the TLS configuration cannot be built: {error}"))
        })?
        .with_client_cert_verifier(client_verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Whether every user may read the file. Returns false if the metadata cannot be read, because the file is being
/// replaced.
fn is_public(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// A file and its last complete content. When another file changes, the content of a file that is being written is
/// not loaded. A file that is temporarily absent does not delay the others.
struct WatchedFile {
    watch: FileWatch,
    content: Content,
}

impl WatchedFile {
    fn open(file: &Path) -> io::Result<Self> {
        FileWatch::open(file).map(|(watch, content)| Self { watch, content })
    }

    async fn changed(&mut self) {
        self.content = self.watch.changed().await;
    }
}

impl PerFile<WatchedFile> {
    /// Waits until one of the files changes.
    async fn changed(&mut self) {
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

    fn contents(&self) -> PerFile<Content> {
        let Self { certificate, private_key, client_ca } = self;
        PerFile {
            certificate: certificate.content.clone(),
            private_key: private_key.content.clone(),
            client_ca: client_ca.as_ref().map(|client_ca| client_ca.content.clone()),
        }
    }
}

/// Reloads the files into `current` when they change.
async fn reload(
    current: Arc<ArcSwap<ServerConfig>>,
    files: TlsFiles,
    mut watched: PerFile<WatchedFile>,
    mut active: TlsContent,
    metrics: ConnectionMetrics,
    mut reloads: ReloadCounter,
) {
    let mut unreported: Option<TlsFileError> = None;
    loop {
        tokio::select! {
            () = watched.changed() => {}
            () = tokio::time::sleep(MISMATCH_GRACE), if unreported.is_some() => {
                if let Some(error) = unreported.take() {
                    reloads.failed();
                    tracing::warn!(%error, "failed to reload the TLS files: the old ones stay active");
                }
                continue;
            }
            () = tokio::time::sleep(REMINDER_INTERVAL) => {
                warn(&files, &active);
                continue;
            }
        }
        let (to_check, contents) = (files.clone(), watched.contents());
        // An error means that the check panicked or that the runtime shuts down.
        let Ok(loaded) = tokio::task::spawn_blocking(move || to_check.check(&contents)).await else { return };
        match loaded {
            Ok(loaded) if loaded.fingerprint == active.fingerprint => {
                unreported = None;
                reloads.reverted();
            }
            Ok(loaded) => {
                unreported = None;
                current.store(Arc::clone(&loaded.config));
                reloads.succeeded();
                metrics.set_certificate_expiry(loaded.validity.end_seconds());
                let valid_until = loaded.validity.end();
                tracing::info!(%valid_until, "reloaded the TLS files for new connections");
                warn(&files, &loaded);
                active = loaded;
            }
            Err(errors) => unreported = errors.into_iter().next(),
        }
    }
}

/// Warns about a certificate that is expired, not valid yet or expires soon, and about a key that every user can
/// read.
///
/// The server starts with an expired certificate, as nginx and Envoy do. Clients reject the certificate. A restart
/// must not turn a late renewal or an incorrect clock into an outage.
fn warn(files: &TlsFiles, loaded: &TlsContent) {
    let certificate = files.certificate.display();
    match loaded.validity.at(SystemTime::now()) {
        ValidityState::Valid { .. } => {}
        ValidityState::ExpiresSoon { days_left } => {
            tracing::warn!(%certificate, days_left, "the TLS certificate expires soon");
        }
        ValidityState::Expired => {
            tracing::error!(%certificate, expired_at = %loaded.validity.end(),
                "the TLS certificate has expired: clients will refuse it");
        }
        ValidityState::NotYet => {
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
