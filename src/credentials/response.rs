//! Checks the responses of token services.

use std::time::{Duration, SystemTime};

use http::{StatusCode, header::DATE};
use httpdate::parse_http_date;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Redactor,
    request::TokenResponse,
    token::{FetchError, FetchErrorKind, Token},
};

/// The error codes that are retried under any status. They come from RFC 6749 (section 4.1.2.1), from Google's token
/// endpoint (Google's own libraries retry them), and from `google.rpc.Code`.
const TRANSIENT: [&str; 6] = [
    "temporarily_unavailable",
    "server_error",
    "internal_failure",
    "rate_limit_exceeded",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
];

impl TokenResponse {
    /// The token of a response by RFC 6749, section 5.1: `access_token`, `expires_in`. A lifetime is at least
    /// `min_seconds`.
    ///
    /// # Errors
    ///
    /// The response is not 2xx, is not JSON, or lacks a token or a valid lifetime.
    pub(super) fn granted(&self, min_seconds: u64) -> Result<Token, FetchError> {
        let json = self.json()?;
        let secret = self.text(&json, "access_token")?;
        if let Some(error) = ServiceError::of(&json) {
            return Err(self.unusable(&format!("answered a token and an error{}", self.described(&error))));
        }
        // The RFC requires the member, but a token without one, or with null, can only be a bearer token.
        let kind = json.get("token_type").filter(|kind| !kind.is_null());
        if kind.is_some_and(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))) {
            return Err(self.unusable("answered a token that is no bearer token"));
        }
        let seconds = json.get("expires_in").and_then(Value::as_u64);
        let seconds = seconds.filter(|seconds| *seconds <= u32::MAX.into());
        let seconds = seconds.ok_or_else(|| self.unusable("answered without a sane expires_in"))?;
        self.token(secret, Duration::from_secs(seconds.max(min_seconds)))
    }

    /// The token of a response of `generateAccessToken`: `accessToken`, `expireTime` in RFC 3339. `Date` is the time by
    /// the same clock. A response without `Date` is taken at `now`, and the lifetime is at most `requested`, because
    /// the clocks may differ.
    ///
    /// # Errors
    ///
    /// As for [`Self::granted`].
    pub(super) fn generated(&self, now: SystemTime, requested: Duration) -> Result<Token, FetchError> {
        let json = self.json()?;
        let secret = self.text(&json, "accessToken")?;
        let expires = json.get("expireTime").and_then(Value::as_str);
        let expires = expires.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let expires = expires.ok_or_else(|| self.unusable("answered without a sane expireTime"))?;
        let date = self.headers.get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?).ok());
        let (now, clock) = date.map_or((now, "the clock here"), |date| (date, "its own Date"));
        let lifetime = SystemTime::from(expires)
            .duration_since(now)
            .map_err(|_| self.unusable(&format!("answered an expireTime that is over, by {clock}")))?;
        Ok(self.token(secret, lifetime)?.for_at_most(requested))
    }

    /// Checks that the response is a 2xx. Otherwise returns the error that it describes.
    pub(super) fn succeeded(&self) -> Result<(), FetchError> {
        self.succeeded_or(|error| self.described(error))
    }

    /// As [`Self::succeeded`], without the description, for a service that is not Google's. The headers, path and query
    /// of the request may be secret.
    pub(super) fn succeeded_without_description(&self) -> Result<(), FetchError> {
        self.succeeded_or(|_| String::new())
    }

    /// An error of a response that cannot be used.
    pub(super) fn unusable(&self, cause: &str) -> FetchError {
        self.error(FetchErrorKind::Unusable, &format!(" {cause}"))
    }

    fn error(&self, kind: FetchErrorKind, cause: &str) -> FetchError {
        FetchError::of(self.service, &self.name, kind, cause)
    }

    fn succeeded_or(&self, describe: impl Fn(&ServiceError<'_>) -> String) -> Result<(), FetchError> {
        if self.status.is_success() {
            return Ok(());
        }
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        let error = json.as_ref().and_then(ServiceError::of);
        let description = error.as_ref().map(describe).unwrap_or_default();
        // The statuses 408 and 429 do not depend on the credential.
        let is_transient = matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || error.is_some_and(|error| TRANSIENT.contains(&error.code));
        let is_refusal = self.status.is_client_error() && !is_transient;
        let kind = if is_refusal { FetchErrorKind::Refused } else { FetchErrorKind::Unusable };
        Err(self.error(kind, &format!(" answered HTTP {}{description}", self.status.as_u16())))
    }

    fn json(&self) -> Result<Value, FetchError> {
        self.succeeded()?;
        // serde's error may quote the body.
        serde_json::from_slice(&self.body)
            .map_err(|_| self.unusable("answered with something that is not JSON"))
    }

    fn text<'j>(&self, json: &'j Value, member: &str) -> Result<&'j str, FetchError> {
        json.get(member).and_then(Value::as_str).ok_or_else(|| {
            let description = ServiceError::of(json).map(|error| self.described(&error)).unwrap_or_default();
            self.unusable(&format!("answered without an {member}{description}"))
        })
    }

    fn token(&self, secret: &str, lifetime: Duration) -> Result<Token, FetchError> {
        Token::new(secret.to_owned().into(), lifetime)
            .map_err(|error| self.error(error.kind, &format!(": {error}")))
    }

    /// `: CODE DESCRIPTION`, without the secrets of the request.
    fn described(&self, error: &ServiceError<'_>) -> String {
        let redactor = Redactor::of(self.secrets.iter().map(AsRef::as_ref));
        let text = format!("{} {}", redactor.clean(error.code), redactor.clean(error.description));
        format!(": {}", text.trim_end())
    }
}

/// The error code and its description: `{"error": "…", "error_description": "…"}` (RFC 6749, section 5.2), or Google's
/// own `{"error": {"status": "…", "message": "…"}}`.
struct ServiceError<'a> {
    code: &'a str,
    description: &'a str,
}

impl<'a> ServiceError<'a> {
    fn of(json: &'a Value) -> Option<Self> {
        let error = json.get("error")?;
        let (code, description) = match error {
            Value::String(code) => (code.as_str(), json.get("error_description")),
            other => (other.get("status")?.as_str()?, other.get("message")),
        };
        Some(Self { code, description: description.and_then(Value::as_str).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests;
