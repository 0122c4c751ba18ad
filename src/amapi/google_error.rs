//! Parses the JSON error body of Google's APIs. Missing and malformed fields are accepted.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::credentials::Redactor;

/// The maximum length of Google's message in a log line, in characters before escaping.
const MAX_LOGGED_MESSAGE: usize = 512;
/// The maximum number of reasons in a log line.
const MAX_LOGGED_REASONS: usize = 3;
/// The maximum length of a status or a reason in a log line, in characters before escaping.
const MAX_LOGGED_NAME: usize = 64;

/// The maximum length of a redacted text, in bytes. Longer text is truncated. A response to a caller has a lower limit.
const MAX_TEXT: usize = 64 * 1024;

/// The fields of Google's JSON error that this server uses,
/// `{"error": {"code", "message", "status", "details": […], "errors": [{"reason", …}]}}`
/// (<https://cloud.google.com/apis/design/errors#http_mapping>; `errors` is the older form, which Google still sends).
///
/// `code` repeats the HTTP status and is not kept. `Display` is one line for the log, of limited length and without
/// control characters.
#[derive(Debug, Clone, PartialEq)]
pub struct GoogleError {
    /// `error.status` as received, for example `NOT_FOUND`; `None` when missing or empty.
    pub status: Option<String>,
    /// `error.message`; `None` when missing or empty.
    pub message: Option<String>,
    /// The reasons: first from each `google.rpc.ErrorInfo` of `details`, then from each item of `error.errors`.
    pub reasons: Vec<String>,
    /// `error.details` as received. An entry may be any JSON.
    pub details: Vec<Value>,
}

impl GoogleError {
    /// Parses a body. Also accepts an array around the object (`[{"error": …}]`, from Google's streaming
    /// endpoints).
    ///
    /// Returns `None` when the body is not a Google API error:
    ///
    /// - it is not JSON, or exceeds serde_json's depth limit (128);
    /// - `error` is not an object (OAuth's `{"error": "invalid_grant"}`);
    /// - `error` has none of these: a numeric `code`, a non-empty text `status` or `message`, a non-empty list
    ///   `details` or `errors`.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let wrapper = match &body {
            Value::Array(errors) => errors.first()?,
            other => other,
        };
        let error = wrapper.get("error")?.as_object()?;

        let status = text(error.get("status"));
        let message = text(error.get("message"));
        let details = list(error.get("details"));
        let errors = list(error.get("errors"));
        let code = error.get("code").is_some_and(is_code);
        if !code && status.is_none() && message.is_none() && details.is_empty() && errors.is_empty() {
            return None;
        }

        let infos = details.iter().filter(|detail| type_name(detail) == Some("google.rpc.ErrorInfo"));
        let reasons = infos.chain(errors).filter_map(|entry| text(entry.get("reason"))).collect();
        Some(Self { status, message, reasons, details: details.to_vec() })
    }

    /// Redacts the secrets that `redactor` knows, in all texts and member names.
    #[must_use]
    pub fn redacted(self, redactor: &Redactor) -> Self {
        let text = |text| redacted_text(text, redactor);
        let Self { status, message, reasons, details } = self;
        Self {
            status: status.map(text),
            message: message.map(text),
            reasons: reasons.into_iter().map(text).collect(),
            details: details.into_iter().map(|detail| redacted(detail, redactor)).collect(),
        }
    }
}

/// The full type name of a `google.protobuf.Any` in JSON: the part of its `@type` after the last `/`.
#[must_use]
pub fn type_name(any: &Value) -> Option<&str> {
    any.get("@type")?.as_str()?.rsplit('/').next()
}

fn redacted(json: Value, redactor: &Redactor) -> Value {
    let text = |text| redacted_text(text, redactor);
    match json {
        Value::String(value) => Value::String(text(value)),
        Value::Array(items) => items.into_iter().map(|item| redacted(item, redactor)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, member)| (text(name), redacted(member, redactor))).collect()
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
    }
}

fn redacted_text(mut text: String, redactor: &Redactor) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    redactor.redact(&text).into_owned()
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_code(code: &Value) -> bool {
    code.is_u64() || code.as_str().is_some_and(|digits| digits.parse::<u16>().is_ok())
}

impl fmt::Display for GoogleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Some(status) => escaped(f, status, MAX_LOGGED_NAME)?,
            None => f.write_str("no error status")?,
        }
        for reason in self.reasons.iter().take(MAX_LOGGED_REASONS) {
            f.write_str(", reason ")?;
            escaped(f, reason, MAX_LOGGED_NAME)?;
        }
        if let Some(message) = &self.message {
            f.write_str(": ")?;
            escaped(f, message, MAX_LOGGED_MESSAGE)?;
        }
        Ok(())
    }
}

/// Writes at most `limit` characters. The escapes prevent the text from starting a log line and from
/// controlling a terminal.
fn escaped(f: &mut fmt::Formatter<'_>, text: &str, limit: usize) -> fmt::Result {
    let mut characters = text.chars();
    for character in characters.by_ref().take(limit) {
        write!(f, "{}", character.escape_debug())?;
    }
    if characters.next().is_some() {
        f.write_char('…')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
