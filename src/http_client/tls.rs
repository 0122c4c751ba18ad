//! TLS towards Google.

use std::{io, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::pem::PemError;

/// The reason why there can be no TLS towards Google. No text names the file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(Arc<io::Error>),
    /// The certificates in the file cannot be trusted.
    #[error("the file {0}")]
    Certificates(#[from] PemError),
    /// rustls refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Provider(String),
    /// reqwest refuses the settings.
    #[error("the HTTP client cannot be built: {0}")]
    Client(Arc<reqwest::Error>),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(Arc::new(error))
    }
}

/// The TLS of a client that trusts `roots`.
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
    use crate::http_client::authorities::LoadedAuthorities;
    use crate::pem::{KEY_ON_ONE_LINE, shows_the_key};

    #[test]
    fn an_error_of_a_file_does_not_quote_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY_ON_ONE_LINE).unwrap();
        let error = |path: &std::path::Path| LoadedAuthorities::load(Some(path.to_owned())).err().unwrap();
        let of_content = error(file.path());
        assert!(of_content.to_string().starts_with("the file is not PEM"), "{of_content}");
        assert!(!shows_the_key(&format!("{of_content} {of_content:?}")), "{of_content:?}");
        let unreadable = error("/nowhere".as_ref());
        assert!(unreadable.to_string().starts_with("cannot read the file"), "{unreadable}");
    }
}
