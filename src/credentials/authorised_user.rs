//! Tokens for a person's login, as gcloud keeps it in `application_default_credentials.json`
//! (RFC 6749, section 6), by yup-oauth2.
//!
//! Their scopes are those of the login, which a refresh cannot widen: for AMAPI it is
//! `gcloud auth application-default login --scopes=…androidmanagement,…cloud-platform`.

use reqwest::Url;
use yup_oauth2::{AuthorizedUserAuthenticator, authorized_user::AuthorizedUserSecret};
use zeroize::Zeroizing;

use super::{
    Surroundings,
    bridge::{Bridge, failed},
    safe_url,
    secret_json::{Malformed, Members},
    token::{FetchError, Token},
};

/// Where a login is refreshed when its file does not say, as gcloud's does not.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// A person who has logged in.
pub(super) struct AuthorisedUser {
    client_id: String,
    client_secret: Zeroizing<String>,
    refresh_token: Zeroizing<String>,
    token_url: Url,
}

impl AuthorisedUser {
    pub(super) fn parse(file: &Members<'_>) -> Result<Self, Malformed> {
        let token_url = match safe_url::of_member(file, "token_uri")? {
            Some(url) => url,
            None => Url::parse(TOKEN_URL).expect("a constant URL"),
        };
        Ok(Self {
            client_id: file.text("client_id")?.to_owned(),
            client_secret: Zeroizing::new(file.text("client_secret")?.to_owned()),
            refresh_token: Zeroizing::new(file.text("refresh_token")?.to_owned()),
            token_url,
        })
    }

    /// The client that the person logged in with: the file does not name the person.
    pub(super) fn principal(&self) -> &str {
        &self.client_id
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings) -> Result<Token, FetchError> {
        let client = surroundings.client(&self.token_url)?;
        let bridge = Bridge::new(client, self.token_url.clone());
        let secret = AuthorizedUserSecret {
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.to_string(),
            refresh_token: self.refresh_token.to_string(),
            key_type: "authorized_user".to_owned(),
        };
        let authenticator = AuthorizedUserAuthenticator::with_client(secret, bridge.client())
            .build()
            .await
            .map_err(|_| failed("it does not take the login"))?;
        // The scopes are a cache's key and no more, and the cache is empty.
        bridge.token(authenticator.token(&[] as &[&str])).await
    }
}
