//! Subject tokens: what a workload has from its own identity provider. One lies in a file, as Kubernetes
//! projects it; another is given out at `/subject-token`, as Azure's endpoints do.

use std::io;
use std::path::{Path, PathBuf};

use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::answer::{Answer, json as json_answer, with_type};
use super::endpoint::Reply;
use super::key::random_text;
use super::secret_file;
use super::state::{State, lock};

/// The header that a request for a subject token must have; its value is a secret.
pub(super) const HEADER: &str = "x-identity-header";

/// The member of the JSON form that holds the token.
pub(super) const MEMBER: &str = "subject_token";

const TEXT: &str = "text/plain; charset=UTF-8";

/// Where a subject token is from; each stands for a workload of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File,
    Url,
}

/// The subject tokens that hold, one of each source.
pub(super) struct Subjects {
    file: String,
    url: String,
    header: String,
    /// Gone with the emulator, and the token's file with it.
    directory: TempDir,
}

impl Source {
    /// The workload, as IAM identifies it
    /// (<https://cloud.google.com/iam/docs/principal-identifiers>).
    pub(super) fn principal(self) -> String {
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

impl Subjects {
    /// Makes the tokens and writes the file. Blocks while it does.
    pub(super) fn new() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut subjects =
            Self { file: String::new(), url: String::new(), header: random_text::<24>()?, directory };
        subjects.rotate()?;
        Ok(subjects)
    }

    /// Puts new tokens in place of the old ones, which no longer hold.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let [file, url] = [new_token()?, new_token()?];
        secret_file::write(&self.path(), &file)?;
        (self.file, self.url) = (file, url);
        Ok(())
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::join(self.directory.path(), "subject-token")
    }

    /// The value of [`HEADER`].
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// The tokens that hold, and the header's value.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        [&*self.file, &*self.url, &*self.header].into_iter()
    }

    /// Whose token this is; `None` when it does not hold.
    pub(super) fn check(&self, token: &str) -> Option<Source> {
        match token {
            token if token == self.file => Some(Source::File),
            token if token == self.url => Some(Source::Url),
            _ => None,
        }
    }
}

fn new_token() -> io::Result<String> {
    Ok(format!("subject.{}", random_text::<48>()?))
}

/// Gives out the token, in JSON for `?format=json`, else as it is.
pub(super) fn answer(state: &State, head: &Parts) -> Reply {
    let subjects = lock(&state.subjects);
    let header = head.headers.get(HEADER).and_then(|value| value.to_str().ok());
    if header != Some(subjects.header()) {
        return Reply::Other(refused(StatusCode::UNAUTHORIZED));
    }
    let mut query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let format = query.find(|(name, _)| name == "format").map(|(_, value)| value);
    match format.as_deref() {
        None | Some("text") => Reply::Token(json!({ MEMBER: subjects.url, "format": "text" })),
        Some("json") => Reply::Token(json!({ MEMBER: subjects.url })),
        Some(_) => Reply::Other(refused(StatusCode::BAD_REQUEST)),
    }
}

/// The token in the form in which it was asked for.
pub(super) fn given(value: &Value) -> Answer {
    if value["format"] == "text" {
        let token = value[MEMBER].as_str().unwrap_or_default();
        return with_type(StatusCode::OK, token.to_owned(), TEXT);
    }
    json_answer(StatusCode::OK, value, false)
}

/// An error in the plain text of an endpoint that is not Google's.
pub(super) fn refused(status: StatusCode) -> Answer {
    with_type(status, status.canonical_reason().unwrap_or("Error").to_owned(), TEXT)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_rotation_ends_the_old_tokens_and_replaces_the_file() {
        let mut subjects = Subjects::new().unwrap();
        let (path, url) = (subjects.path(), subjects.url.clone());
        let file = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(subjects.check(&file), Some(Source::File));
        assert_eq!(subjects.check(&url), Some(Source::Url));
        subjects.rotate().unwrap();
        assert_eq!((subjects.check(&file), subjects.check(&url)), (None, None));
        assert_eq!(subjects.check(&fs::read_to_string(&path).unwrap()), Some(Source::File));
        drop(subjects);
        assert!(!path.exists());
    }
}
