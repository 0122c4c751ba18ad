//! Subject tokens, which a workload gets from its identity provider. One is in a file, as in Kubernetes.
//! `/subject-token` returns the other, like Azure's endpoints.

use std::io;
use std::path::{Path, PathBuf};

use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::credential_file::write_secret;
use crate::key::random_text;
use crate::response::{HttpResponse, json, with_type};
use crate::shared::{Shared, lock};
use crate::token_route::TokenResponse;

/// The header that a request for a subject token must have. Its value is a secret.
pub(crate) const HEADER: &str = "x-identity-header";

/// The member of the JSON form that holds the token.
pub(crate) const MEMBER: &str = "subject_token";

const TEXT: &str = "text/plain; charset=UTF-8";

/// A workload, named by the source of its subject token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    File,
    Url,
}

/// The valid subject tokens, one of each workload.
pub(crate) struct SubjectTokens {
    file: String,
    url: String,
    header: String,
    /// The directory of the token's file. It is removed with the emulator.
    directory: TempDir,
}

impl Workload {
    /// The identifier in IAM (<https://cloud.google.com/iam/docs/principal-identifiers>).
    pub(crate) fn principal(self) -> String {
        let subject = match self {
            Self::File => "file",
            Self::Url => "url",
        };
        format!(
            "principal://iam.googleapis.com/projects/100000000000/locations/global/\
             workloadIdentityPools/emulator/subject/{subject}"
        )
    }
}

impl SubjectTokens {
    /// Generates the tokens and writes the file. Blocks meanwhile.
    pub(crate) fn new() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let header = random_text::<24>()?;
        let mut tokens = Self { file: String::new(), url: String::new(), header, directory };
        tokens.rotate()?;
        Ok(tokens)
    }

    /// Replaces the tokens. The old ones are no longer valid.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        let [file, url] = [new_token()?, new_token()?];
        write_secret(&self.path(), &file)?;
        (self.file, self.url) = (file, url);
        Ok(())
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::join(self.directory.path(), "subject-token")
    }

    /// The value of [`HEADER`].
    pub(crate) fn header(&self) -> &str {
        &self.header
    }

    /// The valid tokens, and the header's value.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        [&*self.file, &*self.url, &*self.header].into_iter()
    }

    /// The workload of a token; `None` when the token is not valid.
    pub(crate) fn check(&self, token: &str) -> Option<Workload> {
        match token {
            token if token == self.file => Some(Workload::File),
            token if token == self.url => Some(Workload::Url),
            _ => None,
        }
    }
}

fn new_token() -> io::Result<String> {
    Ok(format!("subject.{}", random_text::<48>()?))
}

/// Handles a request for the token: JSON for `?format=json`, otherwise text.
pub(crate) fn respond(shared: &Shared, head: &Parts) -> TokenResponse {
    let tokens = lock(&shared.subject_tokens);
    let header = head.headers.get(HEADER).and_then(|value| value.to_str().ok());
    if header != Some(tokens.header()) {
        return TokenResponse::Other(error(StatusCode::UNAUTHORIZED));
    }
    let mut query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let format = query.find(|(name, _)| name == "format").map(|(_, value)| value);
    match format.as_deref() {
        None | Some("text") => TokenResponse::Token(json!({ MEMBER: tokens.url, "format": "text" })),
        Some("json") => TokenResponse::Token(json!({ MEMBER: tokens.url })),
        Some(_) => TokenResponse::Other(error(StatusCode::BAD_REQUEST)),
    }
}

/// The token in the requested format.
pub(crate) fn token_response(value: &Value) -> HttpResponse {
    if value["format"] == "text" {
        let token = value[MEMBER].as_str().unwrap_or_default();
        return with_type(StatusCode::OK, token.to_owned(), TEXT);
    }
    json(StatusCode::OK, value)
}

/// An error in plain text, because the endpoint is not Google's.
pub(crate) fn error(status: StatusCode) -> HttpResponse {
    with_type(status, status.canonical_reason().unwrap_or("Error").to_owned(), TEXT)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_rotation_ends_the_old_tokens_and_replaces_the_file() {
        let mut tokens = SubjectTokens::new().unwrap();
        let (path, url) = (tokens.path(), tokens.url.clone());
        let file = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(tokens.check(&file), Some(Workload::File));
        assert_eq!(tokens.check(&url), Some(Workload::Url));
        tokens.rotate().unwrap();
        assert_eq!((tokens.check(&file), tokens.check(&url)), (None, None));
        assert_eq!(tokens.check(&fs::read_to_string(&path).unwrap()), Some(Workload::File));
        drop(tokens);
        assert!(!path.exists());
    }
}
