//! What is answered on the way to a token, judged before it is used.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Redactor,
    ask::{Reply, Secrets},
    rfc3339,
    secret_json::SecretJson,
    token::{FetchError, Token},
};

/// A word longer than this in an error's description is left out of the log, unless it is the address of what
/// is to be mended, and so is one with so long a run of characters of which tokens are made: some endpoints
/// quote what they refuse, and not only what they were sent.
const LONGEST_WORD: usize = 64;
const LONGEST_RUN: usize = 32;

/// How an assertion begins (base64 of `{"`), and one of Google's access tokens: of these, a part is too much.
const SECRETS: [&str; 2] = ["eyJ", "ya29."];

/// The most of a description that is logged, in characters.
const LONGEST_DESCRIPTION: usize = 300;

/// The errors that speak of a bad time, under whatever status: of RFC 6749 (section 4.1.2.1), of Google's
/// token endpoint (as Google's own libraries retry them), and of `google.rpc.Code`.
const PASSING: [&str; 6] = [
    "temporarily_unavailable",
    "server_error",
    "internal_failure",
    "rate_limit_exceeded",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
];

impl Reply<'_> {
    /// The token of an answer by RFC 6749, section 5.1: `access_token`, `expires_in`.
    ///
    /// # Errors
    ///
    /// The answer is not 2xx, is not JSON, or lacks a token or a sane lifetime.
    pub(super) fn granted(&self) -> Result<Token, FetchError> {
        let json = self.json()?;
        let secret = self.secret(&json, "access_token")?;
        if let Some(said) = Said::of(&json) {
            let both = format!("answered a token and an error{}", said.told(&self.secrets));
            return Err(self.unusable(&both));
        }
        let bearer = |kind: &str| kind.eq_ignore_ascii_case("bearer");
        // The RFC wants the member, but its absence, or null for it, says nothing against a bearer token.
        let kind = json.value().get("token_type").filter(|kind| !kind.is_null());
        if kind.is_some_and(|kind| !kind.as_str().is_some_and(bearer)) {
            return Err(self.unusable("answered a token that is no bearer token"));
        }
        let seconds = json.value().get("expires_in").and_then(Value::as_u64);
        let seconds = seconds.filter(|seconds| *seconds <= u32::MAX.into());
        let seconds = seconds.ok_or_else(|| self.unusable("answered without a sane expires_in"))?;
        Token::new(secret, Duration::from_secs(seconds)).map_err(|error| error.by(self.whom))
    }

    /// The token of an answer of `generateAccessToken`: `accessToken`, `expireTime` in RFC 3339, of which
    /// no more than what was `asked` for is believed, should the clocks differ.
    ///
    /// # Errors
    ///
    /// As for [`Self::granted`].
    pub(super) fn generated(&self, now: SystemTime, asked: Duration) -> Result<Token, FetchError> {
        let json = self.json()?;
        let secret = self.secret(&json, "accessToken")?;
        let expires = json.text("expireTime").and_then(rfc3339::parse);
        let expires = expires.ok_or_else(|| self.unusable("answered without a sane expireTime"))?;
        let lifetime = expires
            .duration_since(now)
            .map_err(|_| self.unusable("answered an expireTime that is over, by the clock here"))?;
        let token = Token::new(secret, lifetime).map_err(|error| error.by(self.whom))?;
        Ok(token.for_at_most(asked))
    }

    /// The JSON of a 2xx.
    pub(super) fn json(&self) -> Result<SecretJson, FetchError> {
        self.succeeded()?;
        SecretJson::parse(&self.body).ok_or_else(|| self.unusable("answered with something that is not JSON"))
    }

    /// Whether the answer is a 2xx; what it says of the error, if not.
    pub(super) fn succeeded(&self) -> Result<(), FetchError> {
        self.succeeded_or(|said| said.told(&self.secrets))
    }

    /// Likewise, but not what it says: of an endpoint that was sent headers, a path and a query of which
    /// nobody knows what in them is secret, and that need not speak OAuth.
    pub(super) fn succeeded_without_words(&self) -> Result<(), FetchError> {
        self.succeeded_or(|_| String::new())
    }

    fn succeeded_or(&self, told: impl Fn(&Said<'_>) -> String) -> Result<(), FetchError> {
        if self.status.is_success() {
            return Ok(());
        }
        let json = SecretJson::parse(&self.body);
        let said = json.as_ref().and_then(Said::of);
        let told = said.as_ref().map(told).unwrap_or_default();
        let cause = format!("{} answered HTTP {}{told}", self.whom, self.status.as_u16());
        // Of these two a client that is in order may hear at a bad time.
        let passing = matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || said.is_some_and(|said| PASSING.contains(&said.code));
        let refused = self.status.is_client_error() && !passing;
        let asked = Some(self.whom.asked);
        Err(if refused { FetchError::Refused(asked, cause) } else { FetchError::Unusable(asked, cause) })
    }

    fn secret(&self, json: &SecretJson, member: &str) -> Result<Zeroizing<String>, FetchError> {
        json.text(member).map(|secret| Zeroizing::new(secret.to_owned())).ok_or_else(|| {
            let told = Said::of(json).map(|said| said.told(&self.secrets)).unwrap_or_default();
            self.unusable(&format!("answered without an {member}{told}"))
        })
    }

    /// An answer that cannot be used.
    pub(super) fn unusable(&self, what: &str) -> FetchError {
        FetchError::Unusable(Some(self.whom.asked), format!("{} {what}", self.whom))
    }
}

/// The error code and its description: `{"error": "…", "error_description": "…"}` (RFC 6749, section 5.2),
/// or Google's own `{"error": {"status": "…", "message": "…"}}`.
struct Said<'a> {
    code: &'a str,
    description: &'a str,
}

impl<'a> Said<'a> {
    fn of(json: &'a SecretJson) -> Option<Self> {
        let error = json.value().get("error")?;
        let (code, description) = match error {
            Value::String(code) => (code.as_str(), json.text("error_description")),
            other => (other.get("status")?.as_str()?, other.get("message").and_then(Value::as_str)),
        };
        Some(Self { code, description: description.unwrap_or_default() })
    }

    /// `: CODE DESCRIPTION`, without what was sent.
    fn told(&self, sent: &Secrets) -> String {
        let redactor = Redactor::of(sent.iter().map(|secret| secret.as_str()));
        let told = format!("{} {}", harmless(self.code, &redactor), harmless(self.description, &redactor));
        format!(": {}", told.trim_end())
    }
}

/// A text without control characters, without the secrets that were sent, and without words that could be
/// a token or an assertion.
fn harmless(text: &str, sent: &Redactor) -> String {
    let text = sent.redact(text);
    let words = text.split_whitespace().map(|word| {
        let long = word.len() > LONGEST_WORD && !is_address(word);
        let secret = has_long_run(word) || SECRETS.iter().any(|begin| word.contains(begin));
        if long || secret || word.chars().any(char::is_control) { "[left out]" } else { word }
    });
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST_DESCRIPTION) {
        line.truncate(end);
    }
    line
}

/// Whether it has a run of characters of base64 or percent-encoding that is too long for a word. Dots and
/// slashes end one: the names of permissions, hosts and resources are long, and are to be told.
fn has_long_run(word: &str) -> bool {
    let in_run = |c: char| c.is_ascii_alphanumeric() || "-_+=%~".contains(c);
    word.split(|c| !in_run(c)).any(|run| run.len() > LONGEST_RUN)
}

/// Whether a word, without the punctuation around it, is a URL, the name of a resource of Google or an email,
/// all of which can be long, and has no query or fragment longer than a word may be.
fn is_address(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    let (place, query) = bare.split_once(['?', '#']).unwrap_or((bare, ""));
    let begins = |with: &[&str]| with.iter().any(|with| place.starts_with(with));
    let is_email = || {
        let is_part = |part: &str| part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        place.split_once('@').is_some_and(|(account, domain)| is_part(account) && is_part(domain))
    };
    let is_known = begins(&["//iam.googleapis.com/", "projects/"])
        // What stands before the @ of a URL may be a password.
        || (begins(&["https://", "http://"]) && !place.contains('@'))
        || is_email();
    is_known && query.len() <= LONGEST_WORD
}

#[cfg(test)]
mod tests;
