//! Which certificates are believed: the public roots that Mozilla keeps, and beside them the ones that
//! the configuration names.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};

use crate::pem::{self, PemError};

/// Why TLS towards Google cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates cannot be read.
    #[error("{} cannot be read: {cause}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: Arc<io::Error>,
    },
    /// The file does not hold what it should.
    #[error("{} {cause}", file.display())]
    NoCertificates {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: PemError,
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
/// It cannot be read, is not PEM, or holds none.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = fs::read(file)
        .map_err(|error| TlsError::Unreadable { file: file.to_owned(), cause: Arc::new(error) })?;
    pem::certificates(&content).map_err(|cause| TlsError::NoCertificates { file: file.to_owned(), cause })
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

#[cfg(test)]
mod tests {
    use super::read_certificates;
    use crate::pem::{KEY_ON_ONE_LINE, shows_the_key};

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY_ON_ONE_LINE).unwrap();
        let error = read_certificates(file.path()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{} is not PEM", file.path().display())), "{error}");
        assert!(!shows_the_key(&format!("{error} {error:?}")), "{error:?}");
        let error = read_certificates("/nowhere".as_ref()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere cannot be read"), "{error}");
    }
}
