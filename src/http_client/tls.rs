//! TLS towards Google: its settings, and why there may be none.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::pem::PemError;

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

/// How Google's endpoints are spoken to by who believes `roots`.
pub(super) fn client_config(roots: Arc<RootCertStore>) -> Result<ClientConfig, TlsError> {
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
    use crate::background::Background;
    use crate::http_client::Authorities;
    use crate::pem::{KEY_ON_ONE_LINE, shows_the_key};

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY_ON_ONE_LINE).unwrap();
        let error = Authorities::of(Some(file.path()), &Background::unsupervised()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{} is not PEM", file.path().display())), "{error}");
        assert!(!shows_the_key(&format!("{error} {error:?}")), "{error:?}");
        let error = Authorities::of(Some("/nowhere".as_ref()), &Background::unsupervised()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere cannot be read"), "{error}");
    }
}
