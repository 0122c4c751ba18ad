//! Tokens for a workload that another identity provider vouches for (AIP-4117): its token is exchanged for
//! one of Google's by RFC 8693.
//!
//! Our own, since yup-oauth2 looks at no status, demands a `format`, and cannot read a file of JSON.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::Serializer;
use http::{HeaderValue, header::AUTHORIZATION};
use reqwest::Url;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Surroundings,
    ask::{Asked, Question, Whom},
    safe_url,
    secret_json::{Malformed, Members},
    subject_token::SubjectToken,
    token::{FetchError, Token},
};

/// Who exchanges tokens.
const WHOM: Whom<'static> = Whom { asked: Asked::TokenExchange, name: "the security token service" };

/// A workload, or a person of a workforce, known to another identity provider.
pub(super) struct ExternalAccount {
    principal: String,
    audience: String,
    subject_token_type: String,
    subject_token: SubjectToken,
    token_url: Url,
    client: Option<Client>,
    workforce_pool_user_project: Option<String>,
}

/// An OAuth client, which some pools of a workforce demand.
struct Client {
    id: String,
    secret: Zeroizing<String>,
}

impl ExternalAccount {
    pub(super) fn parse(file: &Members<'_>) -> Result<Self, Malformed> {
        let audience = file.text("audience")?.to_owned();
        let client = match (file.optional_text("client_id")?, file.optional_text("client_secret")?) {
            (Some(id), secret) => {
                let secret = Zeroizing::new(secret.unwrap_or_default().to_owned());
                Some(Client { id: id.to_owned(), secret })
            }
            (None, Some(_)) => return Err(file.fault("client_id", "is missing beside client_secret")),
            (None, None) => None,
        };
        let owned = |text: &str| text.to_owned();
        Ok(Self {
            principal: format!("workload identity of {audience}"),
            audience,
            subject_token_type: file.text("subject_token_type")?.to_owned(),
            subject_token: SubjectToken::parse(&file.members("credential_source")?)?,
            token_url: safe_url::of_member(file, "token_url")?
                .ok_or_else(|| file.fault("token_url", "is missing: https://sts.googleapis.com/v1/token"))?,
            client,
            workforce_pool_user_project: file.optional_text("workforce_pool_user_project")?.map(owned),
        })
    }

    /// `workload identity of AUDIENCE`: who it is in particular, only its provider knows.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    pub(super) fn subject_token_file(&self) -> Option<&Path> {
        self.subject_token.file()
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings, scope: &str) -> Result<Token, FetchError> {
        let subject_token = self.subject_token.read(surroundings).await?;
        let body = self.form(&subject_token, scope);
        let mut question = Question::form(WHOM, self.token_url.clone(), body);
        if let Some(client) = &self.client {
            question.headers.insert(AUTHORIZATION, client.authorization());
            question.secrets.push(client.secret.clone());
        }
        question.ask(&surroundings.client(&self.token_url)?).await?.granted()
    }

    /// The request of RFC 8693, section 2.1, with Google's `options`.
    fn form(&self, subject_token: &str, scope: &str) -> Zeroizing<Vec<u8>> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("audience", &self.audience)
            .append_pair("scope", scope)
            .append_pair("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
            .append_pair("subject_token_type", &self.subject_token_type)
            .append_pair("subject_token", subject_token);
        // A client has a project of its own, which Google then takes.
        if let (Some(project), None) = (&self.workforce_pool_user_project, &self.client) {
            form.append_pair("options", &json!({"userProject": project}).to_string());
        }
        Zeroizing::new(form.finish().into_bytes())
    }
}

impl Client {
    /// Basic authentication, with both parts as they are: so Google's own libraries do it.
    fn authorization(&self) -> HeaderValue {
        let pair = Zeroizing::new(format!("{}:{}", self.id, self.secret.as_str()));
        let basic = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
        let mut header = HeaderValue::from_str(&basic).expect("base64 is printable ASCII");
        header.set_sensitive(true);
        header
    }
}

#[cfg(test)]
mod tests;
