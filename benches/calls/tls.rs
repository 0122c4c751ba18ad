//! The TLS settings of a run: 1.3 or 1.2, aws-lc-rs, HTTP/2 by ALPN.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Error;
use crate::files::Paths;

/// Trusts only the run's authority, and offers only HTTP/2.
pub(crate) fn connector(paths: &Paths) -> Result<TlsConnector, Error> {
    let mut config = client(paths)?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// As [`connector`], with the callers' certificate.
pub(crate) fn client_with_certificate(paths: &Paths) -> Result<Arc<ClientConfig>, Error> {
    let chain = vec![CertificateDer::from_pem_file(paths.client_certificate())?];
    let key = PrivateKeyDer::from_pem_file(paths.client_key())?;
    let mut config = client(paths)?.with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Presents the servers' certificate. Accepts HTTP/1.1 as well, for a client that fetches its token with it.
pub(crate) fn acceptor(paths: &Paths) -> Result<TlsAcceptor, Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    let mut config =
        config.with_single_cert(chain(paths)?, PrivateKeyDer::from_pem_file(paths.private_key())?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Presents the servers' certificate, requires a client certificate of the run's authority, and accepts only
/// HTTP/2.
pub(crate) fn mutual_acceptor(paths: &Paths) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authority(paths)?), Arc::clone(&provider))
            .build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier);
    let mut config =
        config.with_single_cert(chain(paths)?, PrivateKeyDer::from_pem_file(paths.private_key())?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn client(paths: &Paths) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authority(paths)?))
}

fn authority(paths: &Paths) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(paths.authority())?)?;
    Ok(roots)
}

fn chain(paths: &Paths) -> Result<Vec<CertificateDer<'static>>, Error> {
    Ok(vec![CertificateDer::from_pem_file(paths.certificate())?])
}
