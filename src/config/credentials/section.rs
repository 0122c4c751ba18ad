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

/// A section, as far as it can be understood: what is wrong with one key is noted, and no reason to say
/// nothing of the others.
pub(super) struct Written {
    /// The name as it is written, be it right or not.
    pub(super) name: Option<Given<String>>,
    pub(super) file: File,
    pub(super) impersonate: Option<String>,
    /// Each with its own place; one pattern of all, at the place of the section, when none is given.
    pub(super) enterprises: Vec<Given<Pattern>>,
    pub(super) origin: Origin,
}

/// Which file a section names.
pub(super) enum File {
    Named(Given<PathBuf>),
    /// None: it has the application default credentials.
    None,
    /// That cannot be told, and is noted.
    Unknown,
}

/// All sections; their faults are noted.
pub(super) fn read_all(sections: Vec<Given<Section<'_>>>, faults: &mut Faults) -> Vec<Written> {
    sections.into_iter().map(|section| read(section, faults)).collect()
}

fn read(section: Given<Section<'_>>, faults: &mut Faults) -> Written {
    let Given { value: mut section, origin } = section;
    let name = section.text("name", faults);
    let file = section.path("file", faults);
    let impersonate = section.text("impersonate", faults).and_then(|given| given.parse(faults, valid_email));
    let enterprises = section.texts("enterprises", faults).map(|given| patterns(given, faults));

    if section.lacks("name") {
        let remedy = r#"give one for the logs, for example name = "emea""#;
        faults.add(&origin.within("name"), "this is missing", remedy);
    }
    if let Some(given) = &name {
        given.parse(faults, valid_name);
    }
    let file = match file {
        Some(file) => File::Named(file),
        None if section.lacks("file") => File::None,
        None => File::Unknown,
    };
    let enterprises = match enterprises {
        Some(enterprises) => enterprises,
        None if section.lacks("enterprises") => {
            vec![Given { value: Pattern::all(), origin: origin.clone() }]
        }
        None => Vec::new(),
    };
    section.finish(faults);
    Written { name, file, impersonate, enterprises, origin }
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

fn valid_name(name: &str) -> Result<(), Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(());
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
