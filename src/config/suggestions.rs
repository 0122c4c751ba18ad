//! Suggestions for misspelled names.

use std::cmp::Reverse;

/// The prefix of the product's variables.
pub(super) const PREFIX: &str = "COUNTERMAND_";

/// The known name closest to `name`, if it is close enough for a misspelling.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (name.len() / 4).clamp(1, 3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// The known variable that `name` probably means: the one with a similar spelling, otherwise the only setting with
/// the same words, such as `SERVER_TLS_CERTIFICATE` for `TLS_CERTIFICATE`.
pub(super) fn nearest_variable(
    name: &str,
    settings: &[&'static str],
    other_commands: &[&'static str],
) -> Option<&'static str> {
    let all: Vec<_> = settings.iter().chain(other_commands).copied().collect();
    let without_prefix: Vec<_> = all.iter().map(|known| bare(known)).collect();
    let by_spelling = nearest(bare(name), &without_prefix);
    by_spelling
        .and_then(|meant| all.into_iter().find(|known| bare(known) == meant))
        .or_else(|| nearest_by_words(name, settings))
}

/// The setting with the most words in common. `None` if several have as many.
fn nearest_by_words(name: &str, settings: &[&'static str]) -> Option<&'static str> {
    let meant = words(name);
    let mut near: Vec<_> = settings
        .iter()
        .filter_map(|known| Some((Reverse(common_words(&meant, &words(known))?), *known)))
        .collect();
    near.sort_unstable();
    near.dedup();
    match near[..] {
        [(_, only)] => Some(only),
        [(first, known), (second, _), ..] if first != second => Some(known),
        _ => None,
    }
}

fn words(name: &str) -> Vec<&str> {
    bare(name).split('_').filter(|word| !word.is_empty()).collect()
}

pub(super) fn bare(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// The number of common words, if one list contains all words of the other in the same order.
fn common_words(one: &[&str], other: &[&str]) -> Option<usize> {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let mut rest = long.iter();
    let is_within = !short.is_empty() && short.iter().all(|word| rest.any(|other| other == word));
    is_within.then_some(short.len())
}
