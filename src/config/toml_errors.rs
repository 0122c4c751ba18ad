//! The syntax errors of a TOML text, without those that only follow from an earlier one.
//!
//! The parser goes on after an error and reports much that is right as wrong: a list without its end swallows the keys
//! and sections after it.

use toml::de::{DeTable, Error};

/// The errors among `errors`, which are all of `text`, that do not follow from another: the first, and each that is
/// still the first when the text is parsed again from the next key or section on.
pub(super) fn independent(text: &str, errors: &[Error]) -> Vec<Error> {
    let mut independent = Vec::new();
    let mut rest = Some(0);
    while let Some(from) = rest {
        let (_, errors_of_rest) = DeTable::parse_recoverable(&text[from..]);
        let Some(first) = errors_of_rest.iter().map(start).min() else { break };
        let at = from + first;
        independent.extend(errors.iter().find(|error| start(error) == at).cloned());
        rest = next_statement(text, at);
    }
    independent
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// The start of the next line after `at` that looks like a key or a section.
fn next_statement(text: &str, at: usize) -> Option<usize> {
    let mut from = at;
    loop {
        from += text.get(from..)?.find('\n')? + 1;
        if is_statement(text[from..].lines().next()?) {
            return Some(from);
        }
    }
}

fn is_statement(line: &str) -> bool {
    let is_part_of_key = |c: char| c.is_ascii_alphanumeric() || "-_.\"' \t".contains(c);
    let is_key = |key: &str| !key.trim().is_empty() && key.chars().all(is_part_of_key);
    line.trim_start().starts_with('[') || line.split_once('=').is_some_and(|(key, _)| is_key(key))
}
