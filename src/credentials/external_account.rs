//! Tokens for a workload that another identity provider identifies (AIP-4117). RFC 8693 exchanges the provider's token
//! for one of Google's.
//!
//! yup-oauth2's own flow checks no status, requires a `format`, and cannot read a JSON file.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::Serializer;
use http::{HeaderValue, header::AUTHORIZATION};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Surroundings,
    credential_file::{InvalidContent, members, optional, required, safe_url},
    request::TokenRequest,
    subject_token::{CredentialSource, SubjectToken},
    token::{FetchError, Secret, Token, TokenService},
};

/// A workload, or a person of a workforce, that another identity provider identifies.
pub(super) struct ExternalAccount {
    principal: String,
    audience: String,
    subject_token_type: String,
    subject_token: SubjectToken,
    token_url: Url,
    /// The value of `authorization` for an OAuth client, which some workforce pools require.
    client: Option<HeaderValue>,
    client_secret: Option<Secret>,
    workforce_pool_user_project: Option<String>,
}

#[derive(Deserialize)]
struct ExternalAccountFile {
    audience: Option<String>,
    subject_token_type: Option<String>,
    token_url: Option<String>,
    credential_source: Option<CredentialSource>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    workforce_pool_user_project: Option<String>,
}

impl ExternalAccount {
    pub(super) fn parse(file: &Value) -> Result<Self, InvalidContent> {
        let file: ExternalAccountFile = members(file)?;
        let audience = required(file.audience, "audience")?;
        let client_secret = optional(file.client_secret);
        let client = match (optional(file.client_id), &client_secret) {
            (Some(id), secret) => Some(basic(&id, secret.as_ref().map_or("", AsRef::as_ref))),
            (None, Some(_)) => {
                return Err(InvalidContent::member("client_id", "is missing beside client_secret"));
            }
            (None, None) => None,
        };
        let source = file.credential_source.ok_or_else(|| InvalidContent::missing("credential_source"))?;
        Ok(Self {
            principal: format!("workload identity of {audience}"),
            audience,
            subject_token_type: required(file.subject_token_type, "subject_token_type")?,
            subject_token: SubjectToken::new(source).map_err(|error| error.within("credential_source"))?,
            token_url: safe_url(file.token_url, "token_url")?.ok_or_else(|| {
                InvalidContent::member("token_url", "is missing: https://sts.googleapis.com/v1/token")
            })?,
            client,
            client_secret,
            workforce_pool_user_project: optional(file.workforce_pool_user_project),
        })
    }

    /// `workload identity of AUDIENCE`. Only the identity provider knows the workload itself.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    pub(super) fn subject_token_file(&self) -> Option<&Path> {
        self.subject_token.file()
    }

    pub(super) fn subject_token_url(&self) -> Option<&Url> {
        self.subject_token.url()
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings, scope: &str) -> Result<Token, FetchError> {
        let subject_token = self.subject_token.read(surroundings).await?;
        let form = self.form(&subject_token, scope);
        let mut request = TokenRequest::form(TokenService::TokenExchange, self.token_url.clone(), form);
        request.headers.extend(self.client.clone().map(|client| (AUTHORIZATION, client)));
        request.secrets.extend(self.client_secret.clone());
        request.send(&surroundings.client(&self.token_url)?).await?.granted(0)
    }

    /// The form of RFC 8693, section 2.1, with Google's `options`.
    fn form(&self, subject_token: &Secret, scope: &str) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("audience", &self.audience)
            .append_pair("scope", scope)
            .append_pair("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
            .append_pair("subject_token_type", &self.subject_token_type)
            .append_pair("subject_token", subject_token.as_ref());
        // An OAuth client has its own project, which Google uses.
        if let (Some(project), None) = (&self.workforce_pool_user_project, &self.client) {
            form.append_pair("options", &json!({"userProject": project}).to_string());
        }
        form.finish()
    }
}

/// Basic authentication, with both parts unencoded, as Google's own libraries send it.
fn basic(id: &str, secret: &str) -> HeaderValue {
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
    let mut header = HeaderValue::from_str(&basic).expect("base64 is printable ASCII");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests;
