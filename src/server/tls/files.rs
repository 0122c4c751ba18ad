//! The files of TLS: read, and checked whole, so that no handshake fails for what could be known before.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use zeroize::Zeroizing;

use super::{H2, validity::Validity};
use crate::{file_watch, pem, server::settings::TlsFiles};

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `certificate`.
    Certificate,
    /// `private_key`.
    PrivateKey,
    /// `client_ca`.
    ClientCa,
}

/// What is wrong with a file, and what would be right. Holds nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; {remedy}", file.key())]
pub struct FileError {
    /// Which file.
    pub file: File,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: &'static str,
}

/// What a file holds; wiped when it is dropped.
pub(super) type Content = Zeroizing<Vec<u8>>;

/// Something of each of the files.
pub(super) struct Each<T> {
    pub(super) certificate: T,
    pub(super) private_key: T,
    pub(super) client_ca: Option<T>,
}

/// What the files come to.
pub struct Loaded {
    /// What rustls serves by: TLS 1.2 and 1.3, `h2` alone, no resumption.
    pub config: Arc<ServerConfig>,
    /// From when until when the server's certificate holds.
    pub validity: Validity,
    /// Whether every user of the machine may read the key.
    pub key_is_public: bool,
    /// Of all the contents.
    pub(super) fingerprint: [u8; 32],
}

impl File {
    /// The setting.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "server.tls.certificate",
            Self::PrivateKey => "server.tls.private_key",
            Self::ClientCa => "server.tls.client_ca",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Certificate => {
                "name a PEM file of the server's certificate and those that lead to its root"
            }
            Self::PrivateKey => "name the PEM file of the certificate's own private key, not encrypted",
            Self::ClientCa => "name a PEM file with the CA certificates of your clients",
        }
    }

    fn error(self, problem: String) -> FileError {
        FileError { file: self, problem, remedy: self.remedy() }
    }
}

impl TlsFiles {
    /// Reads and checks them. Blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read or holds nothing of use; or the key is not the certificate's.
    pub fn load(&self) -> Result<Loaded, FileError> {
        self.check(&self.each(file_watch::read)?)
    }

    /// What `open` makes of each.
    pub(super) fn each<T>(&self, open: impl Fn(&Path) -> io::Result<T>) -> Result<Each<T>, FileError> {
        let Self { certificate, private_key, client_ca } = self;
        let open = |file: File, path: &PathBuf| {
            open(path).map_err(|error| file.error(format!("{} cannot be read: {error}", path.display())))
        };
        Ok(Each {
            certificate: open(File::Certificate, certificate)?,
            private_key: open(File::PrivateKey, private_key)?,
            client_ca: client_ca.as_ref().map(|path| open(File::ClientCa, path)).transpose()?,
        })
    }

    /// Checks these contents of theirs. Blocks.
    pub(super) fn check(&self, contents: &Each<Content>) -> Result<Loaded, FileError> {
        let Self { certificate, private_key, client_ca } = self;
        let Each { certificate: chain, private_key: key, client_ca: roots } = contents;
        let mut digest = Context::new(&SHA256);
        for content in [chain, key].into_iter().chain(roots) {
            // With its length, so that no byte can move from one file to the next unnoticed.
            digest.update(&content.len().to_be_bytes());
            digest.update(content);
        }

        let chain = certificates(File::Certificate, certificate, chain)?;
        let validity = Validity::of(&chain)
            .map_err(|problem| File::Certificate.error(format!("{}: {problem}", certificate.display())))?;
        let key = certified(chain, private_key, key)?;
        let roots = match (client_ca, roots) {
            (Some(path), Some(pem)) => Some(certificates(File::ClientCa, path, pem)?),
            _ => None,
        };
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.finish().as_ref());
        Ok(Loaded {
            config: Arc::new(config(key, roots)?),
            validity,
            key_is_public: is_public(private_key),
            fingerprint,
        })
    }
}

fn certificates(file: File, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    pem::certificates(pem).map_err(|error| file.error(format!("{} {error}", path.display())))
}

/// The certificates with their key. The texts of the libraries may quote the file, and are not told.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    path: &Path,
    pem: &[u8],
) -> Result<CertifiedKey, FileError> {
    let wrong = |what: &str| File::PrivateKey.error(format!("{} {what}", path.display()));
    let key = PrivateKeyDer::from_pem_slice(pem).map(Zeroizing::new);
    let key = key.map_err(|_| {
        let is_encrypted = pem.windows(9).any(|word| word == b"ENCRYPTED");
        wrong(if is_encrypted { "holds an encrypted key" } else { "holds no private key" })
    })?;
    let key =
        any_supported_type(&key).map_err(|_| wrong("holds a key of no use: RSA, ECDSA and Ed25519 are"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(wrong("is not the key of the certificate")),
        Err(error) => Err(File::Certificate.error(format!("the certificate cannot be used: {error}"))),
    }
}

fn config(key: CertifiedKey, roots: Option<Vec<CertificateDer<'static>>>) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(default_provider());
    let of_ca = |error: &dyn std::error::Error| {
        File::ClientCa.error(format!("it holds a certificate that cannot be used: {error}"))
    };
    let clients = match roots {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate).map_err(|error| of_ca(&error))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| of_ca(&error))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| File::Certificate.error(format!("TLS cannot be set up: {error}")))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// One that is being replaced, and cannot be looked at, can be read by nobody.
fn is_public(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}
