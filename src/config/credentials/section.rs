//! One `[[credentials]]` of the file.

use std::path::PathBuf;

use super::super::{
    fault::{Faults, Wrong},
    source::{Given, Origin},
    table::Section,
};
use crate::credentials::Pattern;

/// The longest name; it stands in every line of the audit log.
const LONGEST_NAME: usize = 63;

/// The longest email (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const LONGEST_EMAIL: usize = 254;

/// A section that is right by itself.
pub(super) struct Written {
    pub(super) name: Given<String>,
    pub(super) file: Option<Given<PathBuf>>,
    pub(super) impersonate: Option<String>,
    /// Each with its own place; one pattern of all, at the place of the section, when none is given.
    pub(super) enterprises: Vec<Given<Pattern>>,
    pub(super) origin: Origin,
}

/// Those sections that are right; the others' faults are noted.
pub(super) fn read_all(root: &mut Section<'_>, faults: &mut Faults) -> Vec<Written> {
    let sections = root.sections("credentials", faults);
    sections.into_iter().filter_map(|section| read(section, faults)).collect()
}

fn read(section: Given<Section<'_>>, faults: &mut Faults) -> Option<Written> {
    let Given { value: mut section, origin } = section;
    let before = faults.len();
    if !section.has("name") {
        let remedy = r#"give one for the logs, for example name = "emea""#;
        faults.add(&origin.within("name"), "this is missing", remedy);
    }
    let name = section.text("name", faults).and_then(|given| given.parsed(faults, valid_name));
    let file = section.path("file", faults);
    let impersonate = section.text("impersonate", faults).and_then(|given| given.parse(faults, valid_email));
    let is_for_all = !section.has("enterprises");
    let enterprises = match section.texts("enterprises", faults) {
        Some(given) => patterns(given, faults),
        None if is_for_all => vec![Given { value: Pattern::all(), origin: origin.clone() }],
        None => Vec::new(),
    };
    section.finish(faults);
    let written = Written { name: name?, file, impersonate, enterprises, origin };
    (faults.len() == before).then_some(written)
}

fn patterns(given: Given<Vec<Given<String>>>, faults: &mut Faults) -> Vec<Given<Pattern>> {
    if given.value.is_empty() {
        let remedy = "name the enterprises that it serves, or leave the key out for all others";
        faults.add(&given.origin, "the list is empty", remedy);
    }
    given.value.into_iter().filter_map(|item| item.parsed(faults, valid_pattern)).collect()
}

fn valid_pattern(text: &str) -> Result<Pattern, Wrong> {
    Pattern::parse(text).map_err(|error| {
        let remedy = r#"give an id as in enterprises/ID, or the beginning of ids and a *, "LC01" or "LC01*""#;
        Wrong::new(format!("{text:?} matches no enterprise: {error}"), remedy)
    })
}

fn valid_name(name: &str) -> Result<String, Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    let remedy = format!("give 1 to {LONGEST_NAME} letters, digits, '-', '_' or '.'");
    Err(Wrong::new(format!("{name:?} is not a name"), remedy))
}

/// It becomes part of a URL's path, and these characters stand there as they are.
fn valid_email(email: &str) -> Result<String, Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    match email.split_once('@') {
        Some((account, domain))
            if is_part(account)
                && is_part(domain)
                && domain.contains('.')
                && email.len() <= LONGEST_EMAIL =>
        {
            Ok(email.to_owned())
        }
        _ => Err(Wrong::new(
            format!("{email:?} is not the email of a service account"),
            "give one like proxy@project.iam.gserviceaccount.com",
        )),
    }
}
