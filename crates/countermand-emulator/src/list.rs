//! `operations.list`: its query parameters, pages and filter.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api_error::ApiError;
use crate::operation::{Operation, Outcome};
use crate::route::Device;
use crate::settings::Settings;
use crate::store::Store;

/// The query parameters of a list call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListQuery {
    filter: String,
    page_size: i32,
    page_token: String,
}

impl ListQuery {
    /// Reads one parameter. Returns `false` if `operations.list` has no parameter of this name.
    pub(crate) fn read(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        let invalid = |field: &str, kind: &str| {
            let message = format!("Invalid value at '{field}' ({kind}), {}", Value::from(value));
            ApiError::invalid_argument(field, message)
        };
        match name {
            "filter" => value.clone_into(&mut self.filter),
            "pageToken" => value.clone_into(&mut self.page_token),
            "pageSize" => {
                let size = value.parse().ok().filter(|size| *size >= 0);
                self.page_size = size.ok_or_else(|| invalid("page_size", "TYPE_INT32"))?;
            }
            // For `true`, the API returns UNIMPLEMENTED unless the request reads several collections (the discovery document).
            "returnPartialSuccess" => match value {
                "false" => {}
                "true" => {
                    let message = "return_partial_success is not supported.";
                    return Err(ApiError::unimplemented(message));
                }
                _ => return Err(invalid("return_partial_success", "TYPE_BOOL")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The page: `operations`, and `nextPageToken` if there are more operations. In protobuf's JSON form, an empty field is
    /// absent.
    pub(crate) fn page(
        &self,
        device: &Device,
        store: &Store,
        settings: &Settings,
        now: Instant,
    ) -> Result<Value, ApiError> {
        let filter = ListFilter::parse(&self.filter)?;
        let binding = self.binding(device);
        let after = if self.page_token.is_empty() {
            None
        } else {
            let message = "Invalid page token.";
            let token = read_token(&self.page_token, binding);
            Some(token.ok_or_else(|| ApiError::invalid_argument("page_token", message))?)
        };
        let size = match usize::try_from(self.page_size) {
            Ok(size) if size > 0 => size,
            _ => settings.page_size,
        };
        let size = size.min(settings.max_page_size);
        let all = store.of_device(device, after, settings).ok_or_else(ApiError::not_found)?;
        let mut matching = all.filter(|(_, operation)| filter.matches(operation, now)).peekable();
        let page: Vec<_> = matching.by_ref().take(size).collect();
        let mut list = json!({});
        if let (Some((last, _)), Some(_)) = (page.last(), matching.peek()) {
            list["nextPageToken"] = write_token(*last, binding).into();
        }
        if !page.is_empty() {
            list["operations"] = page.iter().map(|(_, operation)| operation.to_json(now)).collect();
        }
        Ok(list)
    }

    /// A hash of the device and the filter: a page token is valid only for the same device and the same
    /// filter (AIP-158).
    fn binding(&self, device: &Device) -> u64 {
        let mut hasher = DefaultHasher::new();
        (device, &self.filter).hash(&mut hasher);
        hasher.finish()
    }
}

fn write_token(last: u64, binding: u64) -> String {
    URL_SAFE_NO_PAD.encode([last.to_be_bytes(), binding.to_be_bytes()].concat())
}

fn read_token(token: &str, binding: u64) -> Option<u64> {
    let bytes: [u8; 16] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let number = u128::from_be_bytes(bytes);
    let (last, bound) = ((number >> 64) as u64, number as u64);
    (bound == binding).then_some(last)
}

/// A filter: terms joined by `AND`. The terms are `done = true`, `done = false` and `metadata.type = NAME`. Google does
/// not document the filter syntax.
struct ListFilter(Vec<Term>);

enum Term {
    Done(bool),
    Type(String),
}

impl ListFilter {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let terms = text.split(" AND ").map(str::trim).filter(|term| !term.is_empty());
        let terms = terms.map(|term| {
            let (field, value) = term.split_once('=')?;
            match (field.trim(), value.trim().trim_matches('"')) {
                ("done", "true") => Some(Term::Done(true)),
                ("done", "false") => Some(Term::Done(false)),
                ("metadata.type", kind) => Some(Term::Type(kind.to_owned())),
                _ => None,
            }
        });
        let message = "Invalid filter: the emulator supports done = true, done = false and \
                       metadata.type = NAME, joined by AND.";
        let terms: Option<Vec<_>> = terms.collect();
        terms.map(Self).ok_or_else(|| ApiError::invalid_argument("filter", message))
    }

    fn matches(&self, operation: &Operation, now: Instant) -> bool {
        self.0.iter().all(|term| match term {
            Term::Done(done) => (operation.outcome(now) != Outcome::Pending) == *done,
            Term::Type(kind) => operation.kind() == kind,
        })
    }
}

#[cfg(test)]
mod tests;
