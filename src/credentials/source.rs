//! A credential as it was defined, made a source of tokens.

use std::{path::Path, sync::Arc};

use reqwest::Url;

use super::{
    Definition, Kind, Origin, SCOPE, SourceError, Surroundings,
    chain::Chain,
    impersonation::Impersonation,
    token::{FetchError, Token, TokenSource},
};
use crate::file_watch::FileWatch;

/// A source of tokens with the scope of the Android Management API.
pub struct Source {
    definition: Definition,
    surroundings: Arc<Surroundings>,
    chain: Chain,
}

impl Source {
    /// Reads and checks what `definition` names. Nobody is asked for a token yet.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn read(definition: &Definition, surroundings: &Arc<Surroundings>) -> Result<Self, SourceError> {
        Self::watched(definition, surroundings).map(|(source, _)| source)
    }

    /// Likewise, with the file that was read, if one was: changes of it since then are for
    /// [`Self::reload`](TokenSource::reload).
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn watched(
        definition: &Definition,
        surroundings: &Arc<Surroundings>,
    ) -> Result<(Self, Option<FileWatch>), SourceError> {
        let (chain, file) = definition.read()?;
        Ok((Self::new(definition.clone(), Arc::clone(surroundings), chain), file))
    }

    fn new(definition: Definition, surroundings: Arc<Surroundings>, chain: Chain) -> Self {
        let chain = match &definition.impersonate {
            Some(email) => chain.impersonating(Impersonation::of(email, surroundings.iam())),
            None => chain,
        };
        Self { definition, surroundings, chain }
    }

    /// What the credential is, whoever is impersonated on top of it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.chain.kind()
    }

    /// Whom the credential stands for, whoever is impersonated on top of it: the email of a service
    /// account, the client id of a person's login, `workload identity of AUDIENCE`. `None` when only
    /// [`Self::identify`] can tell.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.chain.principal()
    }

    /// The principal, for which the metadata server is asked.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub async fn identify(&self) -> Result<String, FetchError> {
        self.chain.identify(&self.surroundings).await
    }

    /// The file that holds the credential.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.definition.origin {
            Origin::File(file) => Some(file),
            Origin::MetadataServer { .. } => None,
        }
    }

    /// The file that holds the subject token of an external account, which is read anew for each token.
    #[must_use]
    pub fn subject_token_file(&self) -> Option<&Path> {
        self.chain.subject_token_file()
    }

    /// The token endpoint that is asked first.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        self.chain.endpoint()
    }

    /// The scope of the tokens.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        SCOPE
    }
}

impl TokenSource for Source {
    async fn fetch(&self) -> Result<Token, FetchError> {
        self.chain.fetch(&self.surroundings).await
    }

    /// The new content may be of another type.
    fn reload(&self, content: &[u8]) -> Result<Self, String> {
        let chain = Chain::parse(content).map_err(|error| error.to_string())?;
        Ok(Self::new(self.definition.clone(), Arc::clone(&self.surroundings), chain))
    }
}

#[cfg(test)]
mod tests;
