//! The files of a run: a certificate authority, the certificates of the servers and of the callers, and the
//! service account keys of Countermand. They are deleted when the run ends.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, SanType,
};
use serde_json::json;
use tempfile::TempDir;

use crate::workload::{self, CREDENTIALS};
use crate::{Error, operation};

/// The SPIFFE ID in the certificate of the callers.
pub(crate) const CLIENT_ID: &str = "spiffe://corp.example/ns/mdm/sa/console";

/// Paths of the files, inside one directory.
#[derive(Debug, Clone)]
pub(crate) struct Paths(PathBuf);

impl Paths {
    /// The files in `directory`, written or not.
    pub(crate) fn within(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("authority.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.join("upstream.pem")
    }

    pub(crate) fn private_key(&self) -> PathBuf {
        self.0.join("upstream.key")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.0.join("countermand.toml")
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.credentials_of(operation::ENTERPRISE)
    }

    pub(crate) fn credentials_of(&self, account: &str) -> PathBuf {
        self.0.join(format!("service-account-{account}.json"))
    }

    pub(crate) fn client_certificate(&self) -> PathBuf {
        self.0.join("client.pem")
    }

    pub(crate) fn client_key(&self) -> PathBuf {
        self.0.join("client.key")
    }

    /// The file for the output of the process `name` to `stream`.
    pub(crate) fn log(&self, name: &str, stream: &str) -> PathBuf {
        self.0.join(format!("{name}.{stream}"))
    }
}

/// Writes the authority, and the certificates of the servers and of the callers. They are deleted with the
/// directory that is returned.
///
/// # Errors
///
/// When a key cannot be made or a file cannot be written.
pub(crate) fn write_certificates() -> Result<(TempDir, Paths), Error> {
    let directory = tempfile::Builder::new().prefix("countermand-bench-").tempdir()?;
    let paths = Paths::within(directory.path());

    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Benchmark authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;

    fs::write(paths.authority(), authority.pem())?;
    fs::write(paths.certificate(), certificate.pem())?;
    fs::write(paths.private_key(), key.serialize_pem())?;

    let key = KeyPair::generate()?;
    let mut client = CertificateParams::default();
    client.subject_alt_names = vec![SanType::URI(CLIENT_ID.try_into()?)];
    fs::write(paths.client_certificate(), client.signed_by(&key, &authority)?.pem())?;
    fs::write(paths.client_key(), key.serialize_pem())?;
    Ok((directory, paths))
}

/// Writes key files as Google's console does, for the token endpoint of the upstream at
/// `https://localhost:{port}`: one of the account that most rows use, and one of each of the [`CREDENTIALS`].
/// They share one key, because making an RSA key takes long.
///
/// # Errors
///
/// When the key cannot be made or the file cannot be written.
pub(crate) fn write_credentials(paths: &Paths, port: u16) -> Result<(), Error> {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256)?.serialize_pem();
    for account in (0..CREDENTIALS).map(workload::account).chain([operation::ENTERPRISE.to_owned()]) {
        let service_account = json!({
            "type": "service_account",
            "project_id": "benchmark",
            "private_key_id": "1",
            "private_key": key,
            "client_email": format!("{account}@benchmark.iam.gserviceaccount.com"),
            "client_id": "1",
            "token_uri": format!("https://localhost:{port}/token"),
        });
        fs::write(paths.credentials_of(&account), service_account.to_string())?;
    }
    Ok(())
}
