//! Tokens for a person's login, as gcloud keeps it in `application_default_credentials.json` (RFC 6749, section 6).
//!
//! The tokens have the scopes of the login, which a refresh cannot widen. AMAPI needs
//! `gcloud auth application-default login --scopes=…androidmanagement,…cloud-platform`.

use form_urlencoded::Serializer;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Surroundings,
    credential_file::{InvalidContent, members, required, safe_url},
    request::TokenRequest,
    token::{FetchError, Secret, Token, TokenService},
};

/// The token endpoint of a login whose file does not name one. gcloud's file does not.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// A person's login.
pub(super) struct AuthorizedUser {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    token_url: Url,
}

#[derive(Deserialize)]
struct AuthorizedUserFile {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    refresh_token: Option<Secret>,
    token_uri: Option<String>,
}

impl AuthorizedUser {
    pub(super) fn parse(file: &Value) -> Result<Self, InvalidContent> {
        let AuthorizedUserFile { client_id, client_secret, refresh_token, token_uri } = members(file)?;
        let token_url = match safe_url(token_uri, "token_uri")? {
            Some(url) => url,
            None => Url::parse(TOKEN_URL).expect("a constant URL"),
        };
        Ok(Self {
            client_id: required(client_id, "client_id")?,
            client_secret: required(client_secret, "client_secret")?,
            refresh_token: required(refresh_token, "refresh_token")?,
            token_url,
        })
    }

    /// The OAuth client of the login. The file does not name the person.
    pub(super) fn principal(&self) -> &str {
        &self.client_id
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings) -> Result<Token, FetchError> {
        let form = Serializer::new(String::new())
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.as_ref())
            .append_pair("refresh_token", self.refresh_token.as_ref())
            .append_pair("grant_type", "refresh_token")
            .finish();
        let request = TokenRequest::form(TokenService::TokenEndpoint, self.token_url.clone(), form);
        request.send(&surroundings.client(&self.token_url)?).await?.granted(0)
    }
}
