//! Which certificates are believed: the public roots that Mozilla keeps, and beside them the ones that
//! the configuration names.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Why TLS towards Google cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates cannot be read, or is not PEM.
    #[error("{}: {cause}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// The file holds no certificate.
    #[error("{}: holds no PEM certificate", file.display())]
    Empty {
        /// Which file.
        file: PathBuf,
    },
    /// A certificate in the file is not one that can be trusted.
    #[error("{}: {cause}", file.display())]
    Untrustable {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// rustls refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Provider(String),
    /// reqwest refuses the settings.
    #[error("the HTTP client cannot be built: {0}")]
    Client(Arc<reqwest::Error>),
}

/// The certificates of a PEM file.
///
/// # Errors
///
/// It cannot be read, or holds none.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error: rustls::pki_types::pem::Error| TlsError::Unreadable {
        file: file.to_owned(),
        cause: error.to_string(),
    };
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { file: file.to_owned() });
    }
    Ok(certificates)
}

/// What a client of Google's endpoints believes.
pub(super) fn client_config(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = ca {
        for certificate in read_certificates(file)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::Untrustable { file: file.to_owned(), cause: error.to_string() })?;
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Provider(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
