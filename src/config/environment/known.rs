//! Which variables with our prefix are not settings of the service, and which one a misspelt one may mean.

use std::{cmp::Reverse, ffi::OsStr};

use super::{super::table, PREFIX};

/// What the other subcommands read; a test of the command line holds this to what they declare.
pub(crate) const OF_OTHER_COMMANDS: [&str; 8] = [
    "COUNTERMAND_EMULATOR_LISTEN",
    "COUNTERMAND_EMULATOR_PICK_UP",
    "COUNTERMAND_EMULATOR_QUOTA",
    "COUNTERMAND_EMULATOR_WRITE_CREDENTIALS",
    "COUNTERMAND_SERVER",
    "COUNTERMAND_TLS_CA",
    "COUNTERMAND_TLS_CERT",
    "COUNTERMAND_TLS_KEY",
];

/// Kubernetes sets `{SERVICE}_SERVICE_HOST`, `_SERVICE_PORT[_{NAME}]` and `_PORT[_…]` (a `tcp://` address
/// and its parts) in every pod of the namespace ("Accessing the Service", Kubernetes documentation). A pod
/// must not fail to start because its Service is called `countermand`.
pub(super) fn is_service_link(name: &str, value: &OsStr) -> bool {
    let rest = format!("_{}", bare(name));
    let is_address = value
        .to_str()
        .is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|p| value.starts_with(p)));
    let has_number_after_port = rest.match_indices("_PORT_").any(|(at, found)| {
        let tail = &rest[at + found.len()..];
        let mut parts = tail.split('_');
        parts.next().is_some_and(|number| number.parse::<u16>().is_ok())
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && is_address)
        || has_number_after_port
}

/// The variable that is meant by a name that is none: one that is spelt nearly so, else the one setting of
/// the service that has a section or a key's name more or less, as `TLS_CERTIFICATE` for
/// `SERVER_TLS_CERTIFICATE`.
pub(super) fn nearest(name: &str, settings: &[&'static str]) -> Option<&'static str> {
    let all: Vec<_> = settings.iter().chain(&OF_OTHER_COMMANDS).copied().collect();
    // The prefix, which all have, says nothing of how near two names are.
    let without_prefix: Vec<_> = all.iter().map(|known: &&'static str| bare(known)).collect();
    let spelt_nearly = table::nearest(bare(name), &without_prefix);
    spelt_nearly
        .and_then(|meant| all.into_iter().find(|known| bare(known) == meant))
        .or_else(|| nearest_in_words(name, settings))
}

/// None when several are equally near.
fn nearest_in_words(name: &str, settings: &[&'static str]) -> Option<&'static str> {
    let meant = words(name);
    let mut near: Vec<_> =
        settings.iter().filter_map(|known| Some((Reverse(common(&meant, &words(known))?), *known))).collect();
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

fn bare(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// How many words both have, when these are all of one of the two, in its order.
fn common(one: &[&str], other: &[&str]) -> Option<usize> {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let mut rest = long.iter();
    let is_within = !short.is_empty() && short.iter().all(|word| rest.any(|other| other == word));
    is_within.then_some(short.len())
}
