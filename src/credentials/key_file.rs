//! The file of a service-account key: read, and checked before it is used.

use reqwest::Url;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use yup_oauth2::ServiceAccountKey;

/// A service-account key that can sign.
pub(super) struct KeyFile {
    pub(super) key: ServiceAccountKey,
    pub(super) token_url: Url,
}

/// Why a file is no usable key. `Display` says what would be right and nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct KeyFileError(String);

impl KeyFile {
    /// Checks the content of a key file whole, so that nothing of it can fail later.
    ///
    /// # Errors
    ///
    /// It is not the JSON of a service account, its key is not an RSA key in PEM, or its `token_uri` is
    /// one that the assertion must not be sent to in clear.
    pub(super) fn parse(content: &[u8]) -> Result<Self, KeyFileError> {
        let wrong = |what: &str| KeyFileError(what.to_owned());
        // serde's own messages can quote the text, which holds the key.
        let json: serde_json::Value = serde_json::from_slice(content).map_err(|error| {
            KeyFileError(format!("is not JSON (line {}, column {})", error.line(), error.column()))
        })?;
        match json.get("type").and_then(serde_json::Value::as_str) {
            Some("service_account") => {}
            Some(kind @ ("authorized_user" | "external_account" | "impersonated_service_account")) => {
                return Err(KeyFileError(format!(
                    "is of type {kind}, which this version does not support: use a service_account key"
                )));
            }
            _ => return Err(wrong("has no \"type\": \"service_account\": use a service-account key")),
        }
        for member in ["client_email", "private_key", "token_uri"] {
            if json.get(member).and_then(serde_json::Value::as_str).is_none_or(str::is_empty) {
                return Err(KeyFileError(format!("has no \"{member}\": download the key anew")));
            }
        }
        let key: ServiceAccountKey = serde_json::from_value(json)
            .map_err(|_| wrong("has a member that is not a string: download the key anew"))?;
        let token_url = check_token_url(&key.token_uri)
            .ok_or_else(|| wrong("its \"token_uri\" must be an https URL, or http on a loopback host"))?;
        check_private_key(&key.private_key)
            .ok_or_else(|| wrong("its \"private_key\" must be an RSA key in PEM: download the key anew"))?;
        Ok(Self { key, token_url })
    }

    /// The service account, `name@project.iam.gserviceaccount.com`.
    pub(super) fn principal(&self) -> &str {
        &self.key.client_email
    }

    /// Where its tokens come from.
    pub(super) fn token_url(&self) -> &Url {
        &self.token_url
    }
}

fn check_token_url(text: &str) -> Option<Url> {
    // yup-oauth2 builds its request from the text, as an `http::Uri`, and does not expect it to fail.
    text.parse::<http::Uri>().ok()?;
    let url = Url::parse(text).ok()?;
    let loopback = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    (safe && url.username().is_empty() && url.password().is_none()).then_some(url)
}

fn check_private_key(pem: &str) -> Option<()> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let key = any_supported_type(&key).ok()?;
    (key.algorithm() == rustls::SignatureAlgorithm::RSA).then_some(())
}
