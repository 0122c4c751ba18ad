//! A certificate authority, and the certificates that it issues.

use std::{path::Path, sync::Arc, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use super::files::replace;

/// Host names that do not resolve. A client reaches them through a proxy only.
pub(crate) const API_HOST: &str = "androidmanagement.test";
pub(crate) const TOKEN_HOST: &str = "oauth2.test";

/// The ALPN protocol IDs of HTTP/2 and HTTP/1.1.
pub(crate) const H2: &[u8] = b"h2";
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// Replaces both files atomically, the certificate first.
    pub(crate) fn write(&self, certificate: &Path, key: &Path) {
        replace(certificate, &self.certificate);
        replace(key, &self.key);
    }

    pub(crate) fn certificate_der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// The certificates, with those of intermediate authorities.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect()
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// A URI subject alternative name.
pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A DNS subject alternative name.
pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        // Each authority has its own name. Otherwise only signatures would distinguish two authorities.
        parameters.distinguished_name.push(DnType::CommonName, format!("CA {:x}", fastrand::u64(..)));
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// An intermediate authority of this authority, whose certificate expires at `end`.
    pub(crate) fn intermediate(&self, end: SystemTime) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.distinguished_name.push(DnType::CommonName, format!("CA {:x}", fastrand::u64(..)));
        parameters.not_after = end.into();
        Self(CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// An authority with this common name, whose certificate no client can use: its basic constraints are malformed.
    pub(crate) fn with_malformed_constraints(common_name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let null = vec![5, 0];
        parameters.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 19], null));
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// The certificate of the authority.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server certificate for loopback.
    pub(crate) fn server(&self) -> Pair {
        self.issue(CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap())
    }

    /// A server certificate for loopback that expires at `end`.
    pub(crate) fn server_until(&self, end: SystemTime) -> Pair {
        let mut params = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        params.not_after = end.into();
        self.issue(params)
    }

    /// A client certificate with these subject alternative names.
    pub(crate) fn client(&self, names: Vec<SanType>) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        self.issue(params)
    }

    /// A client certificate with the DNS name `console.test`.
    pub(crate) fn console(&self) -> Pair {
        self.client(vec![dns("console.test")])
    }

    /// A client certificate with a common name and these subject alternative names.
    pub(crate) fn client_with_common_name(&self, common_name: &str, names: Vec<SanType>) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        self.issue(params)
    }

    /// An expired client certificate.
    pub(crate) fn expired_client(&self) -> Pair {
        let mut params = CertificateParams::new(vec!["console.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.issue(params)
    }

    /// A new server certificate for the key of `pair`.
    pub(crate) fn renewed(&self, pair: &Pair) -> Pair {
        let params = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        self.issue_for(&KeyPair::from_pem(&pair.key).unwrap(), params)
    }

    fn issue(&self, params: CertificateParams) -> Pair {
        self.issue_for(&KeyPair::generate().unwrap(), params)
    }

    fn issue_for(&self, key: &KeyPair, params: CertificateParams) -> Pair {
        let certificate = params.signed_by(key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A TLS acceptor for loopback and the hosts above, with these ALPN protocols.
    pub(crate) fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let names = ["localhost", "127.0.0.1", API_HOST, TOKEN_HOST].map(str::to_owned);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
