//! The token of another identity provider, by which a workload shows who it is (AIP-4117, "Determining the
//! subject token").

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use zeroize::Zeroizing;

use super::{
    Surroundings,
    ask::{Asked, LIMIT, Question, Whom},
    safe_url,
    secret_json::{Malformed, Members, SecretJson},
    token::FetchError,
};
use crate::file_watch;

/// Who is asked for a subject token by its URL.
const WHOM: Whom<'static> =
    Whom { asked: Asked::SubjectTokenSource, name: "the source of the subject token" };

/// Where the token is, and in which form.
pub(super) struct SubjectToken {
    place: Place,
    /// The member of a JSON object that holds it; without one, the text is the token.
    member: Option<String>,
}

enum Place {
    /// Read anew for each token: Kubernetes rotates it.
    File(PathBuf),
    Url {
        url: Url,
        headers: HeaderMap,
    },
}

impl SubjectToken {
    /// Checks `credential_source`.
    pub(super) fn parse(source: &Members<'_>) -> Result<Self, Malformed> {
        for (name, what) in [
            ("environment_id", "means AWS, which is not supported: use a source with file or url"),
            ("executable", "is not supported, as no program is run: use a source with file or url"),
            ("certificate", "is not supported: use a source with file or url"),
        ] {
            if source.value(name).is_some() {
                return Err(source.fault(name, what));
            }
        }
        let place = match (source.optional_text("file")?, safe_url::of_subject_token(source, "url")?) {
            (Some(file), None) => Place::File(PathBuf::from(file)),
            (None, Some(url)) => Place::Url { url, headers: headers(source)? },
            (Some(_), Some(_)) => return Err(source.fault("url", "is one too many beside file: keep one")),
            (None, None) => return Err(source.fault("file", "is missing, and so is url: add one")),
        };
        Ok(Self { place, member: member(source)? })
    }

    /// The file that holds it, if it is in one.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(file) => Some(file),
            Place::Url { .. } => None,
        }
    }

    /// Reads it.
    pub(super) async fn read(&self, surroundings: &Surroundings) -> Result<Zeroizing<String>, FetchError> {
        let content = match &self.place {
            Place::File(file) => read_file(file.clone()).await?,
            Place::Url { url, headers } => {
                let question = Question::get(WHOM, url.clone(), headers.clone());
                let reply = question.ask(&surroundings.client(url)?).await?;
                reply.succeeded_without_words()?;
                reply.body
            }
        };
        self.extract(&content).ok_or_else(|| {
            let wanted = match &self.member {
                Some(member) => format!("is no JSON object with a text as its member {member:?}"),
                None => "is empty, or no plain text".to_owned(),
            };
            FetchError::NoSubjectToken(format!("what {} holds {wanted}", self.place))
        })
    }

    fn extract(&self, content: &[u8]) -> Option<Zeroizing<String>> {
        let json;
        let text = match &self.member {
            Some(member) => {
                json = SecretJson::parse(content)?;
                json.text(member)?
            }
            None => std::str::from_utf8(content).ok()?,
        };
        // A file that a person or a shell wrote ends in a line feed, which is no part of a token.
        let token = text.trim();
        let plain = !token.is_empty() && !token.chars().any(char::is_control);
        plain.then(|| Zeroizing::new(token.to_owned()))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            // The path and the query are left out: they may hold a secret.
            Self::Url { url, .. } => write!(f, "{}", url.origin().ascii_serialization()),
        }
    }
}

fn headers(source: &Members<'_>) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::new();
    let Some(given) = source.optional_members("headers")? else { return Ok(headers) };
    for (name, value) in given.iter() {
        let wrong = || source.fault("headers", "must be an object of header names and their values");
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        let mut value: HeaderValue = value.as_str().ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn member(source: &Members<'_>) -> Result<Option<String>, Malformed> {
    let Some(format) = source.optional_members("format")? else { return Ok(None) };
    match format.optional_text("type")? {
        None | Some("text") => Ok(None),
        Some("json") => format.text("subject_token_field_name").map(|name| Some(name.to_owned())),
        Some(_) => Err(format.fault("type", "must be text or json")),
    }
}

async fn read_file(file: PathBuf) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let cannot = {
        let file = file.clone();
        move |what: &str| {
            FetchError::NoSubjectToken(format!("the subject token's file {} {what}", file.display()))
        }
    };
    let read = tokio::task::spawn_blocking(move || file_watch::read(&file));
    let content = read.await.map_err(|_| cannot("could not be read: the process is ending"))?;
    let content = content.map_err(|error| cannot(&format!("cannot be read: {error}")))?;
    if content.len() > LIMIT {
        return Err(cannot("is too long for a token"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
