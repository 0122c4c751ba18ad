//! Tokens for a service account, by yup-oauth2.
//!
//! A new authenticator is made for each token: there is then no cache in which an error could be kept for
//! good, and a changed key file needs no care. It costs one parse of the key an hour.

use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use reqwest::Url;
use yup_oauth2::{CustomHyperClientBuilder, ServiceAccountAuthenticator};
use zeroize::Zeroizing;

use super::{
    KeyFile, Surroundings,
    bridge::Bridge,
    token::{FetchError, Token},
};

/// A service account that signs for its tokens.
pub(super) struct ServiceAccount {
    key: KeyFile,
}

impl ServiceAccount {
    pub(super) fn new(key: KeyFile) -> Self {
        Self { key }
    }

    /// The account's email.
    pub(super) fn principal(&self) -> &str {
        self.key.principal()
    }

    pub(super) fn endpoint(&self) -> &Url {
        self.key.token_url()
    }

    pub(super) async fn fetch(
        &self,
        surroundings: &Surroundings,
        scope: &'static str,
    ) -> Result<Token, FetchError> {
        let url = self.key.token_url();
        let client = surroundings.client(url).map_err(|error| FetchError::NotAsked(error.to_string()))?;
        let bridge = Bridge::new(client, url.clone());
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(bridge.clone());
        let client = CustomHyperClientBuilder::from(client);
        let failed = |what: &str| FetchError::NotAsked(format!("yup-oauth2 failed: {what}"));

        let authenticator = ServiceAccountAuthenticator::with_client(self.key.key.clone(), client)
            .build()
            .await
            .map_err(|_| failed("it does not take the key"))?;
        let fetched = authenticator.token(&[scope]).await;
        // What the bridge saw is the cause; what yup-oauth2 makes of it may quote the answer.
        let lifetime = bridge.seen().ok_or_else(|| failed("it did not ask the token endpoint"))??;
        let token = fetched.map_err(|_| failed("it does not take the answer"))?;
        let secret = token.token().ok_or_else(|| failed("it answers no token"))?;
        Token::new(Zeroizing::new(secret.to_owned()), lifetime)
    }
}
