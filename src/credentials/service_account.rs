//! Tokens for a service account, by yup-oauth2.
//!
//! A new authenticator is made for each token: there is then no cache in which an error could be kept for
//! good, and a changed key file needs no care. It costs one parse of the key an hour.

use std::path::{Path, PathBuf};

use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use yup_oauth2::{CustomHyperClientBuilder, ServiceAccountAuthenticator};
use zeroize::Zeroizing;

use super::{
    KeyFile, SCOPE,
    bridge::Bridge,
    token::{FetchError, Token, TokenSource},
};
use crate::http_client::{HttpClient, tls::TlsError};

/// A service account as a source of tokens.
pub struct ServiceAccount {
    key: KeyFile,
    client: HttpClient,
    ca: Option<PathBuf>,
}

impl ServiceAccount {
    /// A source of tokens signed for with `key`; `ca` is trusted beside the public roots.
    ///
    /// # Errors
    ///
    /// The certificates of `ca` cannot be read or trusted.
    pub fn new(key: KeyFile, ca: Option<&Path>) -> Result<Self, TlsError> {
        let client = HttpClient::new(&key.token_url, ca)?;
        Ok(Self { key, client, ca: ca.map(Path::to_owned) })
    }
}

impl TokenSource for ServiceAccount {
    async fn fetch(&self) -> Result<Token, FetchError> {
        let bridge = Bridge::new(self.client.clone(), self.key.token_url.clone());
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(bridge.clone());
        let client = CustomHyperClientBuilder::from(client);
        let failed = |what: &str| FetchError::NotAsked(format!("yup-oauth2 failed: {what}"));

        let authenticator = ServiceAccountAuthenticator::with_client(self.key.key.clone(), client)
            .build()
            .await
            .map_err(|_| failed("it does not take the key"))?;
        let fetched = authenticator.token(&[SCOPE]).await;
        // What the bridge saw is the cause; what yup-oauth2 makes of it may quote the answer.
        let lifetime = bridge.seen().ok_or_else(|| failed("it did not ask the token endpoint"))??;
        let token = fetched.map_err(|_| failed("it does not take the answer"))?;
        let secret = token.token().ok_or_else(|| failed("it answers no token"))?;
        Token::new(Zeroizing::new(secret.to_owned()), lifetime)
    }

    fn reload(&self, content: &[u8]) -> Result<Self, String> {
        let key = KeyFile::parse(content).map_err(|error| error.to_string())?;
        if key.token_url == self.key.token_url {
            return Ok(Self { key, client: self.client.clone(), ca: self.ca.clone() });
        }
        Self::new(key, self.ca.as_deref()).map_err(|error| error.to_string())
    }
}
