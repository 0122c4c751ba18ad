//! TLS as both sides of the upstream speak it: 1.3 or 1.2, aws-lc-rs, HTTP/2 by ALPN.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Fault;
use crate::files::Paths;

/// Trusts the run's authority alone and offers HTTP/2 alone.
pub(crate) fn connector(paths: &Paths) -> Result<TlsConnector, Fault> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(paths.authority())?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Presents the upstream's certificate; takes HTTP/1.1 as well, for a client that fetches its token
/// with it.
pub(crate) fn acceptor(paths: &Paths) -> Result<TlsAcceptor, Fault> {
    let chain = vec![CertificateDer::from_pem_file(paths.certificate())?];
    let key = PrivateKeyDer::from_pem_file(paths.private_key())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
