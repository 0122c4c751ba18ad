//! The slips in a text that is not TOML. The parser goes on after the first, and then takes much of what
//! follows for wrong that is not: a list without its end swallows the keys and sections after it.

use toml::de::{DeTable, Error};

/// Those of `errors`, which are all that the parser has against `text`, that are slips of their own: the
/// first, and each that is the first also when the text is read anew from the next key or section on.
pub(super) fn of(text: &str, errors: &[Error]) -> Vec<Error> {
    let mut slips = Vec::new();
    let mut rest = Some(0);
    while let Some(from) = rest {
        let (_, anew) = DeTable::parse_recoverable(&text[from..]);
        let Some(first) = anew.iter().map(start).min() else { break };
        let at = from + first;
        slips.extend(errors.iter().find(|error| start(error) == at).cloned());
        rest = next_statement(text, at);
    }
    slips
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Where the next line after `at` begins that looks like a key or a section.
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
    let is_of_a_key = |c: char| c.is_ascii_alphanumeric() || "-_.\"' \t".contains(c);
    let is_key = |key: &str| !key.trim().is_empty() && key.chars().all(is_of_a_key);
    line.trim_start().starts_with('[') || line.split_once('=').is_some_and(|(key, _)| is_key(key))
}
