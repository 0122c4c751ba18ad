//! Tokens for a service account (RFC 7523), by yup-oauth2.
//!
//! A new authenticator is made for each token: there is then no cache in which an error could be kept for
//! good, and a changed key file needs no care. It costs one parse of the key an hour.

use reqwest::Url;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use yup_oauth2::{ServiceAccountAuthenticator, ServiceAccountKey};
use zeroize::Zeroize;

use super::{
    Surroundings,
    bridge::{Bridge, failed},
    safe_url,
    secret_json::{Malformed, Members},
    token::{FetchError, Token},
};

/// A service account whose key can sign.
pub(super) struct ServiceAccount {
    key: ServiceAccountKey,
    token_url: Url,
}

impl ServiceAccount {
    /// Checks a key file whole, so that nothing of it can fail later.
    ///
    /// # Errors
    ///
    /// A member is missing, the key is not an RSA key in PEM, or `token_uri` is one that the assertion must
    /// not be sent to in clear.
    pub(super) fn parse(file: &Members<'_>) -> Result<Self, Malformed> {
        let token_url = safe_url::of_member(file, "token_uri")?;
        let private_key = file.text("private_key")?;
        check_private_key(private_key).ok_or_else(|| {
            file.fault("private_key", "must be an RSA key in PEM: download the key file anew")
        })?;
        let optional = |name| Ok(file.optional_text(name)?.map(str::to_owned));
        let key = ServiceAccountKey {
            key_type: None,
            project_id: None,
            private_key_id: optional("private_key_id")?,
            client_email: file.text("client_email")?.to_owned(),
            client_id: None,
            auth_uri: None,
            token_uri: file.text("token_uri")?.to_owned(),
            auth_provider_x509_cert_url: None,
            client_x509_cert_url: None,
            private_key: private_key.to_owned(),
        };
        let token_url = token_url.ok_or_else(|| file.fault("token_uri", "is missing"))?;
        Ok(Self { key, token_url })
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
        let bridge = Bridge::new(client, self.token_url.clone());
        let authenticator = ServiceAccountAuthenticator::with_client(self.key.clone(), bridge.client())
            .build()
            .await
            .map_err(|_| failed("it does not take the key"))?;
        bridge.token(authenticator.token(&[scope])).await
    }
}

impl Drop for ServiceAccount {
    fn drop(&mut self) {
        self.key.private_key.zeroize();
    }
}

fn check_private_key(pem: &str) -> Option<()> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let key = any_supported_type(&key).ok()?;
    (key.algorithm() == rustls::SignatureAlgorithm::RSA).then_some(())
}
