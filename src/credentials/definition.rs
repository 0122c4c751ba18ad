//! A credential as the configuration defines it, and the loaded credential, whose file has been read and parsed.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::Url;

use super::{
    SCOPE, Surroundings,
    chain::Chain,
    token::{FetchError, Token, TokenSource, fetch_in_time},
};
use crate::file_watch::FileWatch;

/// The origin of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A Google credential file, whose `type` is the kind of the credential.
    File(PathBuf),
    /// The metadata server of the machine that this process runs on.
    MetadataServer {
        /// `host` or `host:port`: `metadata.google.internal`, or the value of `GCE_METADATA_HOST`.
        host: String,
    },
}

/// A credential as the configuration defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The file or the metadata server.
    pub origin: Origin,
    /// The email of the service account that the credential impersonates.
    pub impersonate: Option<String>,
    /// The id of the Google project whose quota the calls count against, in place of the project of the origin.
    pub project: Option<String>,
}

/// A credential whose file has been read and parsed. Its `Debug` and `Eq` are those of its [`Definition`].
pub struct LoadedCredential {
    definition: Definition,
    chain: Arc<Chain>,
    /// Detects each change of the file after the parsed content.
    file: Option<FileWatch>,
}

/// The kind of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A service account's key.
    ServiceAccount,
    /// A person's login, as gcloud keeps it.
    AuthorizedUser,
    /// A workload that another identity provider identifies (AIP-4117).
    ExternalAccount,
    /// A service account that another credential impersonates.
    ImpersonatedServiceAccount,
    /// The service account of the machine.
    MetadataServer,
}

/// The reason why a credential cannot be loaded. The text neither quotes nor names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFileError {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(String),
    /// The file is not a valid credential.
    #[error("{0}")]
    Invalid(String),
    /// The name of the metadata server is not valid.
    #[error("this is not the host, or host:port, of a metadata server")]
    MetadataHost,
}

impl CredentialFileError {
    /// The action that repairs the error.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Invalid(_) => {
                "name a credential file, as Google Cloud's console or gcloud makes them"
            }
            Self::MetadataHost => "give host or host:port, or unset the variable",
        }
    }
}

impl Definition {
    /// Reads and parses the file. Blocks. Sends no request and starts no task.
    ///
    /// # Errors
    ///
    /// See [`CredentialFileError`].
    pub fn load(&self) -> Result<LoadedCredential, CredentialFileError> {
        let (chain, file) = match &self.origin {
            Origin::File(file) => {
                let opened = FileWatch::open(file);
                let (watch, content) =
                    opened.map_err(|error| CredentialFileError::Unreadable(error.to_string()))?;
                let chain = Chain::parse(&content);
                (chain.map_err(|error| CredentialFileError::Invalid(error.to_string()))?, Some(watch))
            }
            Origin::MetadataServer { host } => {
                let chain = Chain::of_metadata_server(host);
                (chain.ok_or(CredentialFileError::MetadataHost)?, None)
            }
        };
        Ok(LoadedCredential { definition: self.clone(), chain: Arc::new(chain), file })
    }
}

impl LoadedCredential {
    /// The definition that was loaded.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The kind of the credential, without regard to `impersonate`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.chain.kind()
    }

    /// The account of the credential, without `impersonate`: the email of a service account, the client id of a
    /// person's login, `workload identity of AUDIENCE`, or the account that the metadata server returns.
    ///
    /// # Errors
    ///
    /// The metadata server does not return the account.
    pub async fn identify(&self, surroundings: &Surroundings) -> Result<String, FetchError> {
        self.chain.identify(surroundings).await
    }

    /// Fetches one token, within the time that is allowed for it.
    ///
    /// # Errors
    ///
    /// The text holds no secret, so it may be logged.
    pub async fn fetch(&self, surroundings: &Surroundings) -> Result<Token, FetchError> {
        let impersonate = self.definition.impersonate.as_deref();
        fetch_in_time(self.chain.fetch(surroundings, impersonate)).await
    }

    /// The file that holds the credential.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.definition.origin {
            Origin::File(file) => Some(file),
            Origin::MetadataServer { .. } => None,
        }
    }

    /// The file that holds the subject token of an external account. Each fetch reads the file again.
    #[must_use]
    pub fn subject_token_file(&self) -> Option<&Path> {
        self.chain.subject_token_file()
    }

    /// The token endpoint of the first request.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        self.chain.endpoint()
    }

    /// The URLs of all requests for a token, without those of `impersonate` in the configuration.
    pub fn endpoints(&self) -> impl Iterator<Item = &Url> {
        self.chain.endpoints()
    }

    /// The id of the Google project whose quota the calls count against: the setting, otherwise that of the file or of
    /// the impersonated account. `None` if it is unknown.
    #[must_use]
    pub fn project(&self) -> Option<Arc<str>> {
        project(&self.definition, &self.chain)
    }

    /// The scope of the tokens.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        SCOPE
    }

    /// The source of tokens for a refresher, and the watch on its file.
    pub(super) fn into_source(self, surroundings: Arc<Surroundings>) -> (LoadedSource, Option<FileWatch>) {
        let Self { definition, chain, file } = self;
        (LoadedSource { definition, chain, surroundings }, file)
    }
}

impl fmt::Debug for LoadedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

impl PartialEq for LoadedCredential {
    fn eq(&self, other: &Self) -> bool {
        self.definition == other.definition
    }
}

impl Eq for LoadedCredential {}

/// The [`TokenSource`] of a loaded credential.
pub(super) struct LoadedSource {
    definition: Definition,
    chain: Arc<Chain>,
    surroundings: Arc<Surroundings>,
}

impl TokenSource for LoadedSource {
    async fn fetch(&self) -> Result<Token, FetchError> {
        self.chain.fetch(&self.surroundings, self.definition.impersonate.as_deref()).await
    }

    /// The new content may be of another type.
    fn reload(&self, content: &[u8]) -> Result<Self, String> {
        let chain = Arc::new(Chain::parse(content).map_err(|error| error.to_string())?);
        let (definition, surroundings) = (self.definition.clone(), Arc::clone(&self.surroundings));
        Ok(Self { definition, chain, surroundings })
    }

    fn project(&self) -> Option<Arc<str>> {
        project(&self.definition, &self.chain)
    }

    fn redefined(&self, loaded: LoadedCredential) -> Option<(Self, Option<FileWatch>)> {
        Some(loaded.into_source(Arc::clone(&self.surroundings)))
    }
}

fn project(definition: &Definition, chain: &Chain) -> Option<Arc<str>> {
    let of_chain = || chain.project(definition.impersonate.as_deref());
    definition.project.clone().or_else(of_chain).map(Arc::from)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceAccount => "service account",
            Self::AuthorizedUser => "authorized user",
            Self::ExternalAccount => "external account",
            Self::ImpersonatedServiceAccount => "impersonated service account",
            Self::MetadataServer => "metadata server",
        })
    }
}

#[cfg(test)]
mod tests;
