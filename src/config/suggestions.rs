//! The known name that a misspelt one may mean.

use std::cmp::Reverse;

/// The prefix of the product's variables.
pub(super) const PREFIX: &str = "COUNTERMAND_";

/// The known name that is closest to `name`, if one is close enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (name.len() / 4).clamp(1, 3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// The variable that a misspelt one may mean: one that is spelt nearly the same, otherwise the one setting that has
/// the same words, as `SERVER_TLS_CERTIFICATE` for `TLS_CERTIFICATE`.
pub(super) fn nearest_variable(
    name: &str,
    settings: &[&'static str],
    of_other_commands: &[&'static str],
) -> Option<&'static str> {
    let all: Vec<_> = settings.iter().chain(of_other_commands).copied().collect();
    let without_prefix: Vec<_> = all.iter().map(|known| bare(known)).collect();
    let by_spelling = nearest(bare(name), &without_prefix);
    by_spelling
        .and_then(|meant| all.into_iter().find(|known| bare(known) == meant))
        .or_else(|| nearest_by_words(name, settings))
}

/// `None` if several are equally near.
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

/// The number of words that both have, if one has all words of the other, in its order.
fn common_words(one: &[&str], other: &[&str]) -> Option<usize> {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let mut rest = long.iter();
    let is_within = !short.is_empty() && short.iter().all(|word| rest.any(|other| other == word));
    is_within.then_some(short.len())
}
