//! Removes secrets from the texts of services that received them.

use std::{borrow::Cow, collections::HashSet};

/// The number of consecutive characters that identify a secret.
const PIECE: usize = 8;

const REMOVED: &str = "[left out]";

/// A longer word of a description is removed, unless the word is an address or a name that an operator needs.
const MAX_WORD: usize = 64;

/// A word with a longer run of base64 or percent-encoding is removed too: some services quote secrets that the request
/// did not contain.
const MAX_RUN: usize = 32;

/// The longest description in a log, in characters.
const MAX_DESCRIPTION: usize = 300;

/// The prefixes of an assertion (base64 of `{"`) and of Google's access tokens.
const PREFIXES: [&str; 2] = ["eyJ", "ya29."];

/// Masks each run of token characters that holds [`PIECE`] consecutive characters of a secret, unencoded. It has no
/// `Debug`, because it holds secrets.
pub struct Redactor {
    pieces: HashSet<[u8; PIECE]>,
}

impl Redactor {
    /// A redactor of these secrets.
    #[must_use]
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        Self { pieces: secrets.into_iter().flat_map(|secret| pieces_of(secret.as_bytes())).collect() }
    }

    /// The text without the secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let is_secret = |run: &str| pieces_of(run.as_bytes()).any(|piece| self.pieces.contains(&piece));
        if !text.split(is_separator).any(is_secret) {
            return Cow::Borrowed(text);
        }
        let parts = text.split_inclusive(is_separator).flat_map(|part| {
            let run = part.trim_end_matches(is_separator);
            [if is_secret(run) { REMOVED } else { run }, &part[run.len()..]]
        });
        Cow::Owned(parts.collect())
    }

    /// One line of at most 300 characters, without the secrets and without words that could be another secret.
    #[must_use]
    pub(super) fn clean(&self, text: &str) -> String {
        let text = self.redact(text);
        let words = text.split_whitespace().map(|word| {
            let is_suspect = (word.len() > MAX_WORD && !is_address(word))
                || word.split(|c| !is_encoded(c)).any(|run| run.len() > MAX_RUN)
                || PREFIXES.iter().any(|prefix| word.contains(prefix))
                || word.chars().any(char::is_control);
            if is_suspect { REMOVED } else { word }
        });
        let mut line = words.collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(MAX_DESCRIPTION) {
            line.truncate(end);
        }
        line
    }
}

/// The pieces of a text, without those that mostly repeat one character: the tokens of a metadata server end in a row
/// of dots.
fn pieces_of(bytes: &[u8]) -> impl Iterator<Item = [u8; PIECE]> {
    let is_row = |piece: &&[u8; PIECE]| {
        piece.iter().any(|byte| piece.iter().filter(|other| *other == byte).count() > PIECE / 2)
    };
    bytes.array_windows::<PIECE>().filter(move |piece| !is_row(piece)).copied()
}

/// Whether no token contains the character (RFC 6750, section 2.1).
fn is_separator(c: char) -> bool {
    !(c.is_ascii_alphanumeric() || "-._~+/=".contains(c))
}

/// Whether base64 or percent-encoding may contain the character. Dots and slashes are excluded: the names of
/// permissions, hosts and resources are long, and operators need them.
fn is_encoded(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_+=%~".contains(c)
}

/// Whether a word, without the punctuation around it, is a URL, the name of a Google resource or an email. A query or
/// fragment of more than [`MAX_WORD`] bytes disqualifies it.
fn is_address(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    let (path, query) = bare.split_once(['?', '#']).unwrap_or((bare, ""));
    let begins_with = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let is_email = || {
        let is_part = |part: &str| part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        path.split_once('@').is_some_and(|(account, domain)| is_part(account) && is_part(domain))
    };
    let is_known = begins_with(&["//iam.googleapis.com/", "projects/"])
        // The part before the @ of a URL may be a password.
        || (begins_with(&["https://", "http://"]) && !path.contains('@'))
        || is_email();
    is_known && query.len() <= MAX_WORD
}

#[cfg(test)]
mod tests;
