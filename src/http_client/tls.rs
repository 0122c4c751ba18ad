//! TLS towards Google: its settings, and why there may be none.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

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
