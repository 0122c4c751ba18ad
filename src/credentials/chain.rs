//! The accounts of a credential: a first account that authenticates itself, and the service accounts that are
//! impersonated from it, one after the other. Calls use the token of the last account.

use std::path::Path;

use http::HeaderValue;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Kind, SCOPE, Surroundings,
    authorized_user::AuthorizedUser,
    credential_file::{self, InvalidContent, members, optional},
    external_account::ExternalAccount,
    impersonation::{CLOUD_PLATFORM, Impersonation},
    metadata_server::MetadataServer,
    service_account::ServiceAccount,
    token::{FetchError, Token},
};
use crate::project_id::{self, is_project_id};

/// The only supported universe. Google's libraries call the domain of a cloud its universe.
const UNIVERSE: &str = "googleapis.com";

const IMPERSONATED: &str = "impersonated_service_account";

/// The accounts of one credential, as one file defines them.
pub(super) struct Chain {
    kind: Kind,
    first: FirstAccount,
    quota_project: Option<HeaderValue>,
    steps: Vec<Impersonation>,
    projects: FileProjects,
}

/// The ids of projects in a credential file.
#[derive(Default)]
struct FileProjects {
    quota_project_id: Option<String>,
    project_id: Option<String>,
}

/// An account that authenticates itself.
enum FirstAccount {
    ServiceAccount(ServiceAccount),
    AuthorizedUser(AuthorizedUser),
    ExternalAccount(ExternalAccount),
    MetadataServer(MetadataServer),
}

/// The members that every type of file can have. serde's own tagged enums lose the path of an error, so the type is
/// read first.
#[derive(Deserialize)]
struct CommonMembers {
    r#type: Option<String>,
    universe_domain: Option<String>,
    quota_project_id: Option<String>,
    source_credentials: Option<Value>,
}

impl Chain {
    /// Checks the content of a credential file.
    pub(super) fn parse(content: &[u8]) -> Result<Self, InvalidContent> {
        let file = credential_file::parse(content)?;
        let common: CommonMembers = members(&file)?;
        let projects = FileProjects::of(&file);
        if common.r#type.as_deref() != Some(IMPERSONATED) {
            return Ok(Self { projects, ..Self::of_first_account(&file, common)? });
        }
        const SOURCE: &str = "source_credentials";
        let quota_project = common.checked()?;
        let source = common.source_credentials.ok_or_else(|| InvalidContent::missing(SOURCE))?;
        if !source.is_object() {
            return Err(InvalidContent::member(SOURCE, "has the wrong type"));
        }
        let of_source = || {
            let common: CommonMembers = members(&source)?;
            if common.r#type.as_deref() == Some(IMPERSONATED) {
                return Err(InvalidContent::member(
                    "type",
                    "must be another than that of the file around it",
                ));
            }
            Self::of_first_account(&source, common)
        };
        let mut chain = of_source().map_err(|error| error.within(SOURCE))?;
        let target = Impersonation::parse(&file, quota_project)?;
        chain.steps.push(target.ok_or_else(|| InvalidContent::missing("service_account_impersonation_url"))?);
        Ok(Self { kind: Kind::ImpersonatedServiceAccount, projects, ..chain })
    }

    fn of_first_account(file: &Value, common: CommonMembers) -> Result<Self, InvalidContent> {
        let quota_project = common.checked()?;
        let (kind, first) = match common.r#type.as_deref() {
            Some("service_account") => {
                (Kind::ServiceAccount, FirstAccount::ServiceAccount(ServiceAccount::parse(file)?))
            }
            Some("authorized_user") => {
                (Kind::AuthorizedUser, FirstAccount::AuthorizedUser(AuthorizedUser::parse(file)?))
            }
            Some("external_account") => {
                (Kind::ExternalAccount, FirstAccount::ExternalAccount(ExternalAccount::parse(file)?))
            }
            _ => {
                return Err(InvalidContent::member(
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
        let projects = FileProjects::default();
        Ok(Self { kind, first, quota_project, steps: Vec::from_iter(step), projects })
    }

    /// The metadata server at `host` or `host:port`; `None` when that is neither.
    pub(super) fn of_metadata_server(host: &str) -> Option<Self> {
        let first = FirstAccount::MetadataServer(MetadataServer::at(host)?);
        let (steps, projects) = (Vec::new(), FileProjects::default());
        Some(Self { kind: Kind::MetadataServer, first, quota_project: None, steps, projects })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The account at the end of the chain; `None` when only the metadata server knows it (see [`Self::identify`]).
    pub(super) fn principal(&self) -> Option<&str> {
        if let Some(last) = self.steps.last() {
            return Some(last.email());
        }
        match &self.first {
            FirstAccount::ServiceAccount(account) => Some(account.principal()),
            FirstAccount::AuthorizedUser(user) => Some(user.principal()),
            FirstAccount::ExternalAccount(account) => Some(account.principal()),
            FirstAccount::MetadataServer(_) => None,
        }
    }

    /// As [`Self::principal`], but requests an unknown account from the metadata server.
    pub(super) async fn identify(&self, surroundings: &Surroundings) -> Result<String, FetchError> {
        match (self.principal(), &self.first) {
            (None, FirstAccount::MetadataServer(server)) => server.identify(surroundings).await,
            (principal, _) => Ok(principal.unwrap_or_default().to_owned()),
        }
    }

    /// The Google project whose quota the calls count against: the file's `quota_project_id`, otherwise the project of the
    /// impersonated account, otherwise the file's `project_id`.
    pub(super) fn project(&self, impersonate: Option<&str>) -> Option<String> {
        let FileProjects { quota_project_id, project_id } = &self.projects;
        let impersonated = impersonate.or(self.steps.last().map(Impersonation::email));
        let of_account = || impersonated.and_then(project_id::of_service_account);
        quota_project_id.clone().or_else(of_account).or_else(|| project_id.clone())
    }

    /// The file that holds the subject token of a workload.
    pub(super) fn subject_token_file(&self) -> Option<&Path> {
        match &self.first {
            FirstAccount::ExternalAccount(account) => account.subject_token_file(),
            FirstAccount::ServiceAccount(_)
            | FirstAccount::AuthorizedUser(_)
            | FirstAccount::MetadataServer(_) => None,
        }
    }

    /// The token endpoint of the first account.
    pub(super) fn endpoint(&self) -> &Url {
        match &self.first {
            FirstAccount::ServiceAccount(account) => account.endpoint(),
            FirstAccount::AuthorizedUser(user) => user.endpoint(),
            FirstAccount::ExternalAccount(account) => account.endpoint(),
            FirstAccount::MetadataServer(server) => server.endpoint(),
        }
    }

    /// The URLs of all requests of a fetch.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Url> {
        let subject_token = match &self.first {
            FirstAccount::ExternalAccount(account) => account.subject_token_url(),
            FirstAccount::ServiceAccount(_)
            | FirstAccount::AuthorizedUser(_)
            | FirstAccount::MetadataServer(_) => None,
        };
        subject_token
            .into_iter()
            .chain([self.endpoint()])
            .chain(self.steps.iter().map(Impersonation::endpoint))
    }

    /// Fetches the token of the account at the end of the chain, or of `impersonate`, which that account impersonates.
    pub(super) async fn fetch(
        &self,
        surroundings: &Surroundings,
        impersonate: Option<&str>,
    ) -> Result<Token, FetchError> {
        let target = impersonate.map(|email| Impersonation::of(email, surroundings.iam()));
        let steps: Vec<_> = self.steps.iter().chain(&target).collect();
        let scope = if steps.is_empty() { SCOPE } else { CLOUD_PLATFORM };
        let first = match &self.first {
            FirstAccount::ServiceAccount(account) => account.fetch(surroundings, scope).await,
            FirstAccount::AuthorizedUser(user) => user.fetch(surroundings).await,
            FirstAccount::ExternalAccount(account) => account.fetch(surroundings, scope).await,
            FirstAccount::MetadataServer(server) => server.fetch(surroundings, scope).await,
        };
        let Some((last, between)) = steps.split_last() else {
            return Ok(first?.with_quota_project(self.quota_project.clone()));
        };
        let first = first.map_err(|error| error.within("the token of the source credential"))?;
        let mut token = first.with_quota_project(self.quota_project.clone());
        for step in between {
            token = step.fetch(surroundings, &token, CLOUD_PLATFORM).await?;
        }
        last.fetch(surroundings, &token, SCOPE).await
    }
}

impl FileProjects {
    fn of(file: &Value) -> Self {
        // A member that is not an id counts as missing: no request needs it, so it is no error of the file.
        let id = |member| file.get(member)?.as_str().filter(|id| is_project_id(id)).map(str::to_owned);
        Self { quota_project_id: id("quota_project_id"), project_id: id("project_id") }
    }
}

impl CommonMembers {
    /// Checks the universe, and returns the project whose quota calls count against. gcloud writes one for a person,
    /// because a person has no project.
    fn checked(&self) -> Result<Option<HeaderValue>, InvalidContent> {
        if optional(self.universe_domain.as_deref()).is_some_and(|domain| domain != UNIVERSE) {
            return Err(InvalidContent::member(
                "universe_domain",
                "must be googleapis.com: other universes are not supported",
            ));
        }
        let invalid = |_| InvalidContent::member("quota_project_id", "must be the id of a project");
        let id = optional(self.quota_project_id.as_deref());
        id.map(|id| HeaderValue::from_str(id).map_err(invalid)).transpose()
    }
}

#[cfg(test)]
mod tests;
