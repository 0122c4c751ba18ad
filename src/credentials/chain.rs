//! From a credential to the account whose tokens calls carry: an account that can show who it is, and the
//! service accounts that are impersonated from there, one by way of the other.

use std::path::Path;

use http::HeaderValue;
use reqwest::Url;

use super::{
    Kind, SCOPE, Surroundings,
    authorised_user::AuthorisedUser,
    external_account::ExternalAccount,
    impersonation::{CLOUD_PLATFORM, Impersonation},
    metadata_server::MetadataServer,
    secret_json::{Malformed, Members, SecretJson},
    service_account::ServiceAccount,
    token::{FetchError, Token},
};

/// What a credential comes to. What is in one file is all of one chain.
pub(super) struct Chain {
    kind: Kind,
    first: First,
    quota_project: Option<HeaderValue>,
    steps: Vec<Impersonation>,
    /// The steps that are the credential's own, before any that is taken on top of it.
    own_steps: usize,
}

/// Who shows who it is.
enum First {
    ServiceAccount(ServiceAccount),
    AuthorisedUser(AuthorisedUser),
    ExternalAccount(ExternalAccount),
    MetadataServer(MetadataServer),
}

impl Chain {
    /// Checks the content of a credential file.
    pub(super) fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let json = SecretJson::parse_file(content)?;
        let file = json.members()?;
        if file.optional_text("type")? != Some("impersonated_service_account") {
            return Self::parse_first(&file);
        }
        let source = file.members("source_credentials")?;
        if source.optional_text("type")? == Some("impersonated_service_account") {
            return Err(source.fault("type", "must be another than that of the file around it"));
        }
        let mut chain = Self::parse_first(&source)?;
        let target = Impersonation::parse(&file, quota_project(&file)?)?;
        chain.steps.push(target.ok_or_else(|| file.missing("service_account_impersonation_url"))?);
        Ok(Self { kind: Kind::ImpersonatedServiceAccount, own_steps: chain.steps.len(), ..chain })
    }

    fn parse_first(file: &Members<'_>) -> Result<Self, Malformed> {
        let quota_project = quota_project(file)?;
        let (kind, first) = match file.optional_text("type")? {
            Some("service_account") => {
                (Kind::ServiceAccount, First::ServiceAccount(ServiceAccount::parse(file)?))
            }
            Some("authorized_user") => {
                (Kind::AuthorisedUser, First::AuthorisedUser(AuthorisedUser::parse(file)?))
            }
            Some("external_account") => {
                (Kind::ExternalAccount, First::ExternalAccount(ExternalAccount::parse(file)?))
            }
            _ => {
                return Err(file.fault(
                    "type",
                    "must be service_account, authorized_user, external_account or \
                     impersonated_service_account: others are not supported",
                ));
            }
        };
        let step = match kind {
            Kind::ExternalAccount => Impersonation::parse(file, quota_project.clone())?,
            _ => None,
        };
        let steps = Vec::from_iter(step);
        Ok(Self { kind, first, quota_project, own_steps: steps.len(), steps })
    }

    /// The metadata server at `host` or `host:port`; `None` when that is neither.
    pub(super) fn of_metadata_server(host: &str) -> Option<Self> {
        let first = First::MetadataServer(MetadataServer::at(host)?);
        Some(Self { kind: Kind::MetadataServer, first, quota_project: None, steps: Vec::new(), own_steps: 0 })
    }

    /// The chain with one more account at its end.
    #[must_use]
    pub(super) fn impersonating(mut self, account: Impersonation) -> Self {
        self.steps.push(account);
        self
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whom the credential stands for by itself.
    pub(super) fn principal(&self) -> Option<&str> {
        if let Some(last) = self.steps[..self.own_steps].last() {
            return Some(last.email());
        }
        match &self.first {
            First::ServiceAccount(account) => Some(account.principal()),
            First::AuthorisedUser(user) => Some(user.principal()),
            First::ExternalAccount(account) => Some(account.principal()),
            First::MetadataServer(_) => None,
        }
    }

    /// The principal, also where somebody has to be asked.
    pub(super) async fn identify(&self, surroundings: &Surroundings) -> Result<String, FetchError> {
        match (self.principal(), &self.first) {
            (None, First::MetadataServer(server)) => server.identify(surroundings).await,
            (principal, _) => Ok(principal.unwrap_or_default().to_owned()),
        }
    }

    /// The file by whose content a workload shows who it is.
    pub(super) fn subject_token_file(&self) -> Option<&Path> {
        match &self.first {
            First::ExternalAccount(account) => account.subject_token_file(),
            First::ServiceAccount(_) | First::AuthorisedUser(_) | First::MetadataServer(_) => None,
        }
    }

    /// The token endpoint that is asked first.
    pub(super) fn endpoint(&self) -> &Url {
        match &self.first {
            First::ServiceAccount(account) => account.endpoint(),
            First::AuthorisedUser(user) => user.endpoint(),
            First::ExternalAccount(account) => account.endpoint(),
            First::MetadataServer(server) => server.endpoint(),
        }
    }

    /// The token of the account at the end of the chain.
    pub(super) async fn fetch(&self, surroundings: &Surroundings) -> Result<Token, FetchError> {
        let scope = if self.steps.is_empty() { SCOPE } else { CLOUD_PLATFORM };
        let first = match &self.first {
            First::ServiceAccount(account) => account.fetch(surroundings, scope).await,
            First::AuthorisedUser(user) => user.fetch(surroundings).await,
            First::ExternalAccount(account) => account.fetch(surroundings, scope).await,
            First::MetadataServer(server) => server.fetch(surroundings, scope).await,
        };
        let Some((last, between)) = self.steps.split_last() else {
            return Ok(first?.counted_against(self.quota_project.clone()));
        };
        let first = first.map_err(|error| error.of("the token of the source credential"))?;
        let mut token = first.counted_against(self.quota_project.clone());
        for step in between {
            token = step.fetch(surroundings, &token, CLOUD_PLATFORM).await?;
        }
        last.fetch(surroundings, &token, SCOPE).await
    }
}

/// The project whose quota calls are counted against, as gcloud writes it for a person, who has none.
fn quota_project(file: &Members<'_>) -> Result<Option<HeaderValue>, Malformed> {
    const NAME: &str = "quota_project_id";
    let wrong = |_| file.fault(NAME, "must be the id of a project");
    file.optional_text(NAME)?.map(|id| HeaderValue::from_str(id).map_err(wrong)).transpose()
}

#[cfg(test)]
mod tests;
