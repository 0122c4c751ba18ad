//! Tokens for a service account (RFC 7523), by yup-oauth2.
//!
//! Each fetch makes a new authenticator, so that no cache keeps an error or an old key. This costs one parse of the key
//! per hour.

use std::sync::Arc;

use reqwest::Url;
use rustls::{
    SignatureAlgorithm,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::SigningKey,
};
use serde::Deserialize;
use serde_json::Value;
use yup_oauth2::ServiceAccountKey;

use super::{
    Surroundings,
    credential_file::{InvalidContent, members, required, safe_url},
    token::{FetchError, Token},
    yup_connector,
};

/// A service account and its key. It has no `Debug`, because the `Debug` of [`ServiceAccountKey`] prints the key.
pub(super) struct ServiceAccount {
    key: ServiceAccountKey,
    signing_key: Arc<dyn SigningKey>,
    token_url: Url,
}

#[derive(Deserialize)]
struct ServiceAccountFile {
    client_email: Option<String>,
    private_key: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Checks the whole key file, so that no later step can fail because of it.
    pub(super) fn parse(file: &Value) -> Result<Self, InvalidContent> {
        let ServiceAccountFile { client_email, private_key, token_uri } = members(file)?;
        let private_key = required(private_key, "private_key")?;
        let signing_key = rsa_key(&private_key).ok_or_else(|| {
            InvalidContent::member("private_key", "must be an RSA key in PEM: download the key file anew")
        })?;
        let token_url = safe_url(token_uri.clone(), "token_uri")?;
        let key = ServiceAccountKey {
            key_type: None,
            project_id: None,
            private_key_id: None,
            client_email: required(client_email, "client_email")?,
            client_id: None,
            auth_uri: None,
            token_uri: required(token_uri, "token_uri")?,
            auth_provider_x509_cert_url: None,
            client_x509_cert_url: None,
            private_key,
        };
        let token_url = token_url.ok_or_else(|| InvalidContent::missing("token_uri"))?;
        Ok(Self { key, signing_key, token_url })
    }

    /// The account's email.
    pub(super) fn principal(&self) -> &str {
        &self.key.client_email
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings, scope: &str) -> Result<Token, FetchError> {
        let client = surroundings.client(&self.token_url)?;
        let signing_key = Arc::clone(&self.signing_key);
        yup_connector::fetch(&self.key, signing_key, scope, client, self.token_url.clone()).await
    }
}

fn rsa_key(pem: &str) -> Option<Arc<dyn SigningKey>> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let key = any_supported_type(&key).ok()?;
    (key.algorithm() == SignatureAlgorithm::RSA).then_some(key)
}
