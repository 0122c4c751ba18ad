//! The files of a run: a CA, certificates of the servers and the callers, and service account keys. They are deleted
//! at the end. Also the TLS settings that use them: TLS 1.3 or 1.2, aws-lc-rs, HTTP/2 by ALPN.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, SanType,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::{CREDENTIALS, Error, account, operation};

/// The SPIFFE ID in the certificate of the callers.
pub(crate) const CLIENT_ID: &str = "spiffe://corp.example/ns/mdm/sa/console";

/// The paths of the files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
}

impl Files {
    /// Writes the CA and the certificates.
    pub(crate) fn write() -> Result<(TempDir, Self), Error> {
        let directory = tempfile::Builder::new().prefix("countermand-bench-").tempdir()?;
        let files = Self { directory: directory.path().to_owned() };

        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Benchmark authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        fs::write(files.authority(), authority.pem())?;

        let server = CertificateParams::new(vec!["localhost".to_owned()])?;
        let mut client = CertificateParams::default();
        client.subject_alt_names = vec![SanType::URI(CLIENT_ID.try_into()?)];
        for (name, certificate) in [("server", server), ("client", client)] {
            let key = KeyPair::generate()?;
            fs::write(files.certificate(name), certificate.signed_by(&key, &authority)?.pem())?;
            fs::write(files.private_key(name), key.serialize_pem())?;
        }
        Ok((directory, files))
    }

    /// Writes key files for the token endpoint at `https://localhost:{port}`: one for the account of most rows, and
    /// one for each of the [`CREDENTIALS`]. They share one key, because the generation of an RSA key is slow.
    pub(crate) fn write_credentials(&self, port: u16) -> Result<(), Error> {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256)?.serialize_pem();
        for account in (0..CREDENTIALS).map(account).chain([operation::ENTERPRISE.to_owned()]) {
            let service_account = json!({
                "type": "service_account",
                "project_id": "benchmark",
                "private_key_id": "1",
                "private_key": key,
                "client_email": format!("{account}@benchmark.iam.gserviceaccount.com"),
                "client_id": "1",
                "token_uri": format!("https://localhost:{port}/token"),
            });
            fs::write(self.credentials(&account), service_account.to_string())?;
        }
        Ok(())
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// The file of "server" or "client".
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    /// The file of "server" or "client".
    pub(crate) fn private_key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    pub(crate) fn credentials(&self, account: &str) -> PathBuf {
        self.directory.join(format!("service-account-{account}.json"))
    }

    /// The settings of a client that trusts only the CA. With `certificate`, the client presents the callers'
    /// certificate.
    pub(crate) fn client(&self, certificate: bool) -> Result<Arc<ClientConfig>, Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        let mut config = match certificate {
            true => {
                let (chain, key) = self.pair("client")?;
                config.with_client_auth_cert(chain, key)?
            }
            false => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// The settings of a server. With `mutual`, the server requires a client certificate of the CA. Otherwise it also
    /// accepts HTTP/1.1, which clients may use for token requests.
    pub(crate) fn acceptor(&self, mutual: bool) -> Result<TlsAcceptor, Error> {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let (chain, key) = self.pair("server")?;
        let mut config = match mutual {
            true => config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider).build()?,
            ),
            false => config.with_no_client_auth(),
        }
        .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        if !mutual {
            config.alpn_protocols.push(b"http/1.1".to_vec());
        }
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn pair(&self, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain = vec![CertificateDer::from_pem_file(self.certificate(name))?];
        Ok((chain, PrivateKeyDer::from_pem_file(self.private_key(name))?))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority())?)?;
        Ok(roots)
    }
}
