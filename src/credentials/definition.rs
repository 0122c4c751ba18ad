//! What a configuration says of a credential.

use std::{fmt, path::PathBuf};

use super::chain::Chain;
use crate::file_watch::FileWatch;

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

/// Why a definition makes no source. No text of it says anything of a file's content.
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

impl SourceError {
    /// What would be right.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File { .. } => "name a credential file, as Google Cloud's console or gcloud makes them",
            Self::MetadataHost { .. } => "give host or host:port, or unset the variable",
        }
    }
}

impl Definition {
    /// Checks, without asking for a token, that it makes a source.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn check(&self) -> Result<(), SourceError> {
        self.read().map(drop)
    }

    /// The chain up to where `impersonate` goes on, and the file that says so, watched from this content on.
    pub(super) fn read(&self) -> Result<(Chain, Option<FileWatch>), SourceError> {
        match &self.origin {
            Origin::File(file) => {
                let wrong = |what: String| SourceError::File { file: file.clone(), what };
                let (watch, content) =
                    FileWatch::open(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
                let chain = Chain::parse(&content).map_err(|error| wrong(error.to_string()))?;
                Ok((chain, Some(watch)))
            }
            Origin::MetadataServer { host } => {
                let chain = Chain::of_metadata_server(host);
                Ok((chain.ok_or_else(|| SourceError::MetadataHost { host: host.clone() })?, None))
            }
        }
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
