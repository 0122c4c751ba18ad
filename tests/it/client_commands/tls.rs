//! TLS of the test server.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::support::tls::{Authority, H2};

/// The TLS of a server with a certificate of `authority`, which requires a client certificate of `authority`.
pub(crate) fn requiring_client_certificate(authority: &Authority) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let pair = authority.server();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![pair.certificate_der()], pair.key_der())
        .unwrap();
    config.alpn_protocols = vec![H2.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
