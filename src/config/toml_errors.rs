//! The syntax errors of a TOML text, without consequential errors.
//!
//! The parser continues after an error and may report valid text as invalid: after a list without its end, it reads
//! the next keys and sections as items.

use toml::de::{DeTable, Error};

/// Filters `errors`, which are all errors of `text`. An error is independent if it is the first, or if it is still
/// the first when the text is parsed again from the key or section after the previous independent error.
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
