//! The token of another identity provider that identifies a workload (AIP-4117, "Determining the subject token").

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    Surroundings,
    credential_file::{InvalidContent, optional, required, subject_token_url},
    request::{LIMIT, TokenRequest},
    token::{FetchError, FetchErrorKind, Secret, TokenService},
};
use crate::file_watch;

/// The location and the format of the token.
pub(super) struct SubjectToken {
    location: Location,
    /// The member of the JSON object that holds the token. `None` when the whole text is the token.
    member: Option<String>,
}

enum Location {
    /// Each fetch reads the file again, because Kubernetes rotates the token.
    File(PathBuf),
    Url {
        url: Url,
        headers: HeaderMap,
    },
}

/// The `credential_source` of a file.
#[derive(Deserialize)]
pub(super) struct CredentialSource {
    file: Option<String>,
    url: Option<String>,
    headers: Option<Map<String, Value>>,
    format: Option<SubjectTokenFormat>,
    environment_id: Option<IgnoredAny>,
    executable: Option<IgnoredAny>,
    certificate: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct SubjectTokenFormat {
    r#type: Option<String>,
    subject_token_field_name: Option<String>,
}

impl SubjectToken {
    pub(super) fn new(source: CredentialSource) -> Result<Self, InvalidContent> {
        let CredentialSource { file, url, headers, format, environment_id, executable, certificate } = source;
        for (name, member, problem) in [
            (
                "environment_id",
                environment_id,
                "means AWS, which is not supported: use a source with file or url",
            ),
            (
                "executable",
                executable,
                "is not supported, as no program is run: use a source with file or url",
            ),
            ("certificate", certificate, "is not supported: use a source with file or url"),
        ] {
            if member.is_some() {
                return Err(InvalidContent::member(name, problem));
            }
        }
        let location = match (optional(file), subject_token_url(url, "url")?) {
            (Some(file), None) => Location::File(PathBuf::from(file)),
            (None, Some(url)) => Location::Url { url, headers: header_map(headers.unwrap_or_default())? },
            (Some(_), Some(_)) => {
                return Err(InvalidContent::member("url", "is one too many beside file: keep one"));
            }
            (None, None) => {
                return Err(InvalidContent::member("file", "is missing, and so is url: add one"));
            }
        };
        let member = format.map(json_member).transpose().map_err(|error| error.within("format"))?;
        Ok(Self { location, member: member.flatten() })
    }

    /// The file that holds the token, if one does.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.location {
            Location::File(file) => Some(file),
            Location::Url { .. } => None,
        }
    }

    pub(super) fn url(&self) -> Option<&Url> {
        match &self.location {
            Location::File(_) => None,
            Location::Url { url, headers: _ } => Some(url),
        }
    }

    /// Reads the token.
    pub(super) async fn read(&self, surroundings: &Surroundings) -> Result<Secret, FetchError> {
        let (content, location) = match &self.location {
            Location::File(file) => (read_file(file).await?, file.display().to_string()),
            Location::Url { url, headers } => {
                let request =
                    TokenRequest::get(TokenService::SubjectTokenSource, url.clone(), headers.clone());
                let response = request.send(&surroundings.client(url)?).await?;
                response.succeeded_without_description()?;
                // The path and the query may hold a secret.
                (response.body, url.origin().ascii_serialization())
            }
        };
        self.extract(&content).ok_or_else(|| {
            let problem = match &self.member {
                Some(member) => format!("is no JSON object with a text as its member {member:?}"),
                None => "is empty, or no plain text".to_owned(),
            };
            unreadable(format!("the content of {location} {problem}"))
        })
    }

    fn extract(&self, content: &[u8]) -> Option<Secret> {
        let json: Value;
        let text = match &self.member {
            Some(member) => {
                json = serde_json::from_slice(content).ok()?;
                json.get(member)?.as_str()?
            }
            None => str::from_utf8(content).ok()?,
        };
        // Editors and shells end a file with a line feed, which is not part of the token.
        let token = text.trim();
        let is_plain = !token.is_empty() && !token.chars().any(char::is_control);
        is_plain.then(|| token.to_owned().into())
    }
}

fn header_map(given: Map<String, Value>) -> Result<HeaderMap, InvalidContent> {
    let header = |(name, value): (String, Value)| {
        let name: HeaderName = name.parse().ok()?;
        let mut value: HeaderValue = value.as_str()?.parse().ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    given.into_iter().map(header).collect::<Option<_>>().ok_or_else(|| {
        InvalidContent::member("headers", "must be an object of header names and their values")
    })
}

fn json_member(format: SubjectTokenFormat) -> Result<Option<String>, InvalidContent> {
    match optional(format.r#type).as_deref() {
        None | Some("text") => Ok(None),
        Some("json") => required(format.subject_token_field_name, "subject_token_field_name").map(Some),
        Some(_) => Err(InvalidContent::member("type", "must be text or json")),
    }
}

async fn read_file(file: &Path) -> Result<Vec<u8>, FetchError> {
    let error = |cause: &str| unreadable(format!("the subject token's file {} {cause}", file.display()));
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || file_watch::read(&path)).await;
    let content = read.map_err(|_| error("could not be read: the process is ending"))?;
    let content = content.map_err(|cause| error(&format!("cannot be read: {cause}")))?;
    if content.len() > LIMIT {
        return Err(error("is too long for a token"));
    }
    Ok(content.to_vec())
}

fn unreadable(cause: String) -> FetchError {
    FetchError::new(FetchErrorKind::NoSubjectToken, cause)
}

#[cfg(test)]
mod tests;
