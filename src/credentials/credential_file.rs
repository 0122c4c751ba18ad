//! Reads the JSON of a credential file. An error names the member and the valid values. It never quotes the content,
//! which serde's own messages can do.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Host;

use crate::{config::endpoint::has_login, loopback::is_loopback_host};

/// The reason why the content of a credential file is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {problem}", member.as_ref().map_or("the file".to_owned(), |member| format!("its \"{member}\"")))]
pub(super) struct InvalidContent {
    /// The path of the member, `credential_source.file` for example.
    member: Option<String>,
    problem: String,
}

impl InvalidContent {
    fn whole(problem: impl Into<String>) -> Self {
        Self { member: None, problem: problem.into() }
    }

    /// An invalid member.
    pub(super) fn member(member: impl Into<String>, problem: &str) -> Self {
        Self { member: Some(member.into()), problem: problem.to_owned() }
    }

    /// A missing member.
    pub(super) fn missing(member: impl Into<String>) -> Self {
        Self::member(member, "is missing: make the file anew, or add it")
    }

    /// The same error in an object that is the member `outer`.
    pub(super) fn within(self, outer: &str) -> Self {
        Self {
            member: Some(self.member.map_or(outer.to_owned(), |inner| format!("{outer}.{inner}"))),
            ..self
        }
    }
}

/// The object that a credential file holds.
pub(super) fn parse(content: &[u8]) -> Result<Value, InvalidContent> {
    let json: Value = serde_json::from_slice(content).map_err(|error| {
        InvalidContent::whole(format!("is not JSON (line {}, column {})", error.line(), error.column()))
    })?;
    if json.is_object() { Ok(json) } else { Err(InvalidContent::whole("is no JSON object")) }
}

/// Deserializes the members of a type of file. Each member is an `Option`, because serde's error for a missing member
/// has no path; [`required`] reports it with the path.
pub(super) fn members<T: DeserializeOwned>(json: &Value) -> Result<T, InvalidContent> {
    serde_path_to_error::deserialize(json)
        .map_err(|error| InvalidContent::member(error.path().to_string(), "has the wrong type"))
}

/// A text that the file must have. An empty text counts as missing.
pub(super) fn required<T: AsRef<str>>(text: Option<T>, member: &str) -> Result<T, InvalidContent> {
    optional(text).ok_or_else(|| InvalidContent::missing(member))
}

/// A text that may be missing or empty.
pub(super) fn optional<T: AsRef<str>>(text: Option<T>) -> Option<T> {
    text.filter(|text| !text.as_ref().is_empty())
}

/// The URL of a member, to which secrets are sent: `https`, or `http` on a loopback host.
pub(super) fn safe_url(text: Option<String>, member: &str) -> Result<Option<Url>, InvalidContent> {
    let invalid = || InvalidContent::member(member, "must be an https URL, or http on a loopback host");
    optional(text).map(|text| checked_url(&text, is_loopback_host).ok_or_else(invalid)).transpose()
}

/// The URL of a member that returns a subject token. It may also be link-local: the metadata servers of clouds are
/// link-local, and do not support TLS.
pub(super) fn subject_token_url(text: Option<String>, member: &str) -> Result<Option<Url>, InvalidContent> {
    let invalid = || {
        InvalidContent::member(member, "must be an https URL, or http on a loopback or link-local address")
    };
    let check = |text: String| {
        checked_url(&text, |host| is_loopback_host(host) || is_link_local(host)).ok_or_else(invalid)
    };
    optional(text).map(check).transpose()
}

fn checked_url(text: &str, plaintext_allowed: impl Fn(&Host<&str>) -> bool) -> Option<Url> {
    // yup-oauth2 builds its request from the text, as an `http::Uri`, and panics when that fails.
    text.parse::<http::Uri>().ok()?;
    let url = Url::parse(text).ok()?;
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => plaintext_allowed(&url.host()?),
        _ => false,
    };
    (is_safe && !has_login(&url)).then_some(url)
}

fn is_link_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(_) => false,
        Host::Ipv4(address) => Ipv4Addr::is_link_local(address),
        Host::Ipv6(address) => Ipv6Addr::is_unicast_link_local(address),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{checked_url, is_link_local, is_loopback_host, members, parse, required};

    #[derive(Deserialize)]
    struct File {
        a: Option<Inner>,
    }

    #[derive(Deserialize)]
    struct Inner {
        b: Option<String>,
    }

    #[test]
    fn an_error_names_the_member_and_nothing_of_the_content() {
        let inner = |content: &str| {
            let file: File = members(&parse(content.as_bytes())?)?;
            required(file.a.map(|a| a.b.unwrap_or_default()), "a.b")
        };
        for (content, error) in [
            (r#"{"a": {"b": 73}}"#, r#"its "a.b" has the wrong type"#),
            (r#"{"a": "secret"}"#, r#"its "a" has the wrong type"#),
            (r#"{"a": {"b": ""}}"#, r#"its "a.b" is missing: make the file anew, or add it"#),
            (r#"{"a": {"b": null}}"#, r#"its "a.b" is missing: make the file anew, or add it"#),
            (r#"{"private_key": secret}"#, "the file is not JSON (line 1, column 17)"),
            (r#"["secret"]"#, "the file is no JSON object"),
        ] {
            assert_eq!(inner(content).expect_err(content).to_string(), error);
        }
    }

    #[test]
    fn a_url_for_secrets_is_https_or_on_loopback() {
        for safe in [
            "https://sts.googleapis.com/v1/token",
            "http://127.0.0.1:1/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(checked_url(safe, is_loopback_host).is_some(), "{safe}");
        }
        for refused in [
            "",
            "sts.googleapis.com",
            "ftp://127.0.0.1/",
            "http://example.com/",
            "http://169.254.169.254/",
            "http://localhost.example.com/",
            "https://user@example.com/",
            "https://user:word@example.com/",
        ] {
            assert!(checked_url(refused, is_loopback_host).is_none(), "{refused}");
        }
    }

    #[test]
    fn metadata_servers_are_link_local() {
        for local in ["http://169.254.169.254/metadata", "http://[fe80::1]/"] {
            assert!(checked_url(local, is_link_local).is_some(), "{local}");
        }
        for remote in ["http://10.0.0.1/", "http://metadata.google.internal/", "http://[fd00::1]/"] {
            assert!(checked_url(remote, is_link_local).is_none(), "{remote}");
        }
    }
}
