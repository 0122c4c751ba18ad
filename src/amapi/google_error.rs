//! The JSON in which Google's APIs tell an error, read tolerantly.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::credentials::Redactor;

/// How much of Google's message goes into a line of the log, in characters before escaping.
const LOGGED_MESSAGE: usize = 512;
/// How many reasons go into a line of the log, and how much of each, likewise.
const LOGGED_REASONS: usize = 3;
const LOGGED_NAME: usize = 64;

/// How much of one text is looked through for secrets and kept, in bytes: many times what an answer to a caller
/// has room for.
const LONGEST_TEXT: usize = 64 * 1024;

/// What decisions and answers need of Google's JSON error,
/// `{"error": {"code", "message", "status", "details": […], "errors": [{"reason", …}]}}`
/// (<https://cloud.google.com/apis/design/errors#http_mapping>; `errors` is the older form, still sent).
///
/// `code` only repeats the HTTP status and is not kept. `Display` is one line for the log, bounded and
/// without control characters.
#[derive(Debug, Clone, PartialEq)]
pub struct GoogleError {
    /// `error.status`, `NOT_FOUND` for example, as it came; absent when missing or empty.
    pub status: Option<String>,
    /// `error.message`; absent when missing or empty.
    pub message: Option<String>,
    /// The reasons in the order of the body: of each `google.rpc.ErrorInfo`, then of each `error.errors`.
    pub reasons: Vec<String>,
    /// `error.details` as they came. An entry may be any JSON.
    pub details: Vec<Value>,
}

impl GoogleError {
    /// Reads a body, alone or wrapped in an array (`[{"error": …}]`, as Google's streaming endpoints do).
    ///
    /// `None` when it is not Google's: not JSON, nested deeper than serde_json's limit (128), an `error`
    /// that is no object (OAuth's `{"error": "invalid_grant"}`), or an object in which not one member of
    /// Google's has its type (`{"error": {}}`). One such member is enough, whatever else is missing, of
    /// another type, or there in addition.
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
        let legacy = list(error.get("errors"));
        let code = error.get("code").is_some_and(is_code);
        if !code && status.is_none() && message.is_none() && details.is_empty() && legacy.is_empty() {
            return None;
        }

        let infos = details.iter().filter(|detail| type_name(detail) == Some("google.rpc.ErrorInfo"));
        let reasons = infos.chain(legacy).filter_map(|entry| text(entry.get("reason"))).collect();
        Some(Self { status, message, reasons, details: details.to_vec() })
    }

    /// The same without what `redactor` knows, in any text of it and in the names of members.
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

/// The full name of the type that a JSON `Any` says it is: what follows the last `/` of its `@type`.
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
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
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
            Some(status) => escaped(f, status, LOGGED_NAME)?,
            None => f.write_str("without a status")?,
        }
        for reason in self.reasons.iter().take(LOGGED_REASONS) {
            f.write_str(", reason ")?;
            escaped(f, reason, LOGGED_NAME)?;
        }
        if let Some(message) = &self.message {
            f.write_str(": ")?;
            escaped(f, message, LOGGED_MESSAGE)?;
        }
        Ok(())
    }
}

/// Writes at most `limit` characters, escaped so that no text from outside can start a line of the log
/// or steer a terminal.
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
