//! `operations.list`: its query, its pages, its filter.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::operation::{Operation, Outcome};
use super::refusal::Refusal;
use super::route::Device;
use super::settings::Settings;
use super::store::Store;

/// The query of a list call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    filter: String,
    page_size: i32,
    page_token: String,
}

impl Query {
    /// Reads one parameter; `false` when list has no such parameter.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        let invalid = |field: &str, kind: &str| {
            let message = format!("Invalid value at '{field}' ({kind}), {}", Value::from(value));
            Refusal::invalid_argument(field, message)
        };
        match name {
            "filter" => value.clone_into(&mut self.filter),
            "pageToken" => value.clone_into(&mut self.page_token),
            "pageSize" => {
                let size = value.parse().ok().filter(|size| *size >= 0);
                self.page_size = size.ok_or_else(|| invalid("page_size", "TYPE_INT32"))?;
            }
            // The discovery document: UNIMPLEMENTED when set, and for reads across collections only.
            "returnPartialSuccess" => match value {
                "false" => {}
                "true" => {
                    let message = "return_partial_success is not supported.";
                    return Err(Refusal::unimplemented(message));
                }
                _ => return Err(invalid("return_partial_success", "TYPE_BOOL")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The page that the query asks for: `operations` and, when more follow, `nextPageToken`. As in
    /// protobuf's JSON form, what is empty is absent.
    pub(super) fn page(
        &self,
        device: &Device,
        store: &Store,
        settings: &Settings,
        now: Instant,
    ) -> Result<Value, Refusal> {
        let filter = Filter::parse(&self.filter)?;
        let binding = self.binding(device);
        let after = if self.page_token.is_empty() {
            None
        } else {
            let message = "Invalid page token.";
            let token = read_token(&self.page_token, binding);
            Some(token.ok_or_else(|| Refusal::invalid_argument("page_token", message))?)
        };
        let size = match usize::try_from(self.page_size).unwrap_or(0) {
            0 => settings.page_size,
            size => size.min(settings.max_page_size),
        };
        let all = store.of_device(device, after, settings).ok_or_else(Refusal::not_found)?;
        let mut matching = all.filter(|(_, operation)| filter.admits(operation, now)).peekable();
        let page: Vec<_> = matching.by_ref().take(size).collect();
        let mut answer = json!({});
        if let (Some((last, _)), Some(_)) = (page.last(), matching.peek()) {
            answer["nextPageToken"] = write_token(*last, binding).into();
        }
        if !page.is_empty() {
            answer["operations"] = page.iter().map(|(_, operation)| operation.to_json(now)).collect();
        }
        Ok(answer)
    }

    /// What a page token is good for: the same device and the same filter (AIP-158).
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

/// A filter: terms joined by `AND`, of which the emulator knows `done = true` or `false` and
/// `metadata.type = NAME`. Google does not say which filters the API has.
struct Filter(Vec<Term>);

enum Term {
    Done(bool),
    Type(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Refusal> {
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
        let message = "Invalid filter: the emulator knows done = true, done = false and \
                       metadata.type = NAME, joined by AND.";
        let terms: Option<Vec<_>> = terms.collect();
        terms.map(Self).ok_or_else(|| Refusal::invalid_argument("filter", message))
    }

    fn admits(&self, operation: &Operation, now: Instant) -> bool {
        self.0.iter().all(|term| match term {
            Term::Done(done) => (operation.outcome(now) != Outcome::Pending) == *done,
            Term::Type(kind) => operation.kind() == kind,
        })
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
