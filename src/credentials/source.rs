//! A credential as it was defined, made a source of tokens.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::Url;
use zeroize::Zeroizing;

use super::{
    KeyFile, SCOPE, Surroundings,
    service_account::ServiceAccount,
    token::{FetchError, Token, TokenSource},
};

/// Where a credential comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A Google credential file, whose `type` says what it is.
    File(PathBuf),
    /// The metadata server of the machine that we run on.
    MetadataServer {
        /// `host` or `host:port`: `metadata.google.internal`, or what `GCE_METADATA_HOST` says.
        host: String,
    },
}

/// A credential, as the configuration defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Where it comes from.
    pub origin: Origin,
    /// The email of the service account whose tokens are wanted in its place.
    pub impersonate: Option<String>,
}

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A service account's key.
    ServiceAccount,
    /// A person's login, as gcloud keeps it.
    AuthorisedUser,
    /// A workload that another identity provider vouches for (AIP-4117).
    ExternalAccount,
    /// A service account, by means of another credential.
    ImpersonatedServiceAccount,
    /// The service account of the machine.
    MetadataServer,
}

/// Why a definition makes no source. `Display` says what would be right, and nothing of a file's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read, or is no credential.
    #[error("{} {what}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The name of the metadata server is none.
    #[error("{host:?} is not the host, or host:port, of a metadata server")]
    MetadataHost {
        /// What was given.
        host: String,
    },
}

/// A source of tokens with the scope of the Android Management API.
pub struct Source {
    definition: Definition,
    surroundings: Arc<Surroundings>,
    account: ServiceAccount,
}

impl Definition {
    /// Checks, without a token, that it makes a source.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn check(&self) -> Result<(), SourceError> {
        self.read().map(drop)
    }

    fn read(&self) -> Result<ServiceAccount, SourceError> {
        match &self.origin {
            Origin::File(file) => {
                let wrong = |what: String| SourceError::File { file: file.clone(), what };
                let content =
                    std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
                let key =
                    KeyFile::parse(&Zeroizing::new(content)).map_err(|error| wrong(error.to_string()))?;
                Ok(ServiceAccount::new(key))
            }
            Origin::MetadataServer { host } => Err(SourceError::MetadataHost { host: host.clone() }),
        }
    }
}

impl Source {
    /// Reads and checks what `definition` names. Nobody is asked for a token yet.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn read(definition: &Definition, surroundings: &Arc<Surroundings>) -> Result<Self, SourceError> {
        let account = definition.read()?;
        Ok(Self { definition: definition.clone(), surroundings: Arc::clone(surroundings), account })
    }

    /// What the credential is, whoever is impersonated on top of it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::ServiceAccount
    }

    /// Whom the credential stands for, whoever is impersonated on top of it: an email, the client of a
    /// person's login, `workload identity of AUDIENCE`. `None` when only [`Self::identify`] can tell.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        Some(self.account.principal())
    }

    /// The principal, for which the metadata server is asked.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn identify(&self) -> Result<String, FetchError> {
        Ok(self.account.principal().to_owned())
    }

    /// The file that holds the credential, which is to be watched.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.definition.origin {
            Origin::File(file) => Some(file),
            Origin::MetadataServer { .. } => None,
        }
    }

    /// The token endpoint that is asked first.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        self.account.endpoint()
    }

    /// The scope of the tokens.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        SCOPE
    }
}

impl TokenSource for Source {
    async fn fetch(&self) -> Result<Token, FetchError> {
        self.account.fetch(&self.surroundings, SCOPE).await
    }

    fn reload(&self, content: &[u8]) -> Result<Self, String> {
        let key = KeyFile::parse(content).map_err(|error| error.to_string())?;
        Ok(Self {
            definition: self.definition.clone(),
            surroundings: Arc::clone(&self.surroundings),
            account: ServiceAccount::new(key),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceAccount => "service account",
            Self::AuthorisedUser => "authorised user",
            Self::ExternalAccount => "external account",
            Self::ImpersonatedServiceAccount => "impersonated service account",
            Self::MetadataServer => "metadata server",
        })
    }
}
