//! `[[credentials]]`: what calls upstream carry, and which credential is for which enterprises. None at all
//! for application default credentials.

mod application_default;
pub(super) mod google_cloud;
mod overlap;
mod section;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    files,
    source::{Given, Origin},
    table::Section,
};
use crate::credentials::{self, Definition, LoadedCredential, Pattern};

use application_default::ApplicationDefault;
use section::{File, Written};

/// The three ways to have application default credentials, in the order in which they are looked for.
const APPLICATION_DEFAULT: &str = "application default credentials: the variable \
    GOOGLE_APPLICATION_CREDENTIALS naming a credential file, the file that gcloud auth application-default \
    login writes, or the metadata server of Google Cloud";

/// The key of the sections.
pub(super) const SECTIONS: &str = "credentials";

/// A Google credential, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What logs call it, unlike any other: 1 to 63 of `A-Z a-z 0-9 - _ .`; `default` for one of the
    /// command line, the environment or Google Cloud.
    pub name: String,
    /// Its file, read and parsed.
    pub loaded: LoadedCredential,
    /// Which enterprises it serves; at least one pattern, and none that another credential has too.
    pub enterprises: Vec<Pattern>,
}

impl Credential {
    /// At least one, unless a fault was noted; but that none is given at all is no fault when the file,
    /// which may hold it, `is_whole` not.
    pub(super) fn read_all(
        flag: Option<PathBuf>,
        environment: &mut Environment,
        sections: Vec<Given<Section<'_>>>,
        is_whole: bool,
        faults: &mut Faults,
    ) -> Vec<Self> {
        let nowhere = Origin::Key { key: SECTIONS.to_owned(), line: None };
        let before = faults.len();
        let written = section::read_all(sections, faults);
        overlap::note(&written, faults);
        let is_right = faults.len() == before;

        let replaced = Given::flag("--credentials", flag).or(environment.path("COUNTERMAND_CREDENTIALS"));
        let mut default = ApplicationDefault::of(environment);
        if let Some(file) = replaced {
            return unnamed(file.map(credentials::Origin::File), faults).into_iter().collect();
        }
        if written.is_empty() {
            if !is_right || !is_whole {
                return Vec::new();
            }
            let remedy =
                format!("give --credentials FILE, a [[credentials]] section, or {APPLICATION_DEFAULT}");
            let Some(given) = default.find(&nowhere) else {
                faults.add(&nowhere, "there is no credential", remedy);
                return Vec::new();
            };
            return unnamed(given, faults).into_iter().collect();
        }
        written.into_iter().filter_map(|written| resolved(written, &mut default, faults)).collect()
    }
}

/// A section of the file with its origin found and checked; with a fault noted, it is not used.
fn resolved(written: Written, default: &mut ApplicationDefault, faults: &mut Faults) -> Option<Credential> {
    let Written { name, file, impersonate, enterprises, origin } = written;
    let given = match file {
        File::Named(file) => file.map(credentials::Origin::File),
        File::Unknown => return None,
        File::None => match default.find(&origin) {
            Some(given) => given,
            None => {
                let problem = "this is missing, and there are no application default credentials";
                let remedy = format!(
                    r#"name a credential file, for example file = "emea.json", or have {APPLICATION_DEFAULT}"#
                );
                faults.add(&origin.within("file"), problem, remedy);
                return None;
            }
        },
    };
    let given = given.map(|origin| Definition { origin, impersonate });
    let loaded = load(&given, faults)?;
    Some(Credential {
        name: name?.value,
        loaded,
        enterprises: enterprises.into_iter().map(|given| given.value).collect(),
    })
}

/// The only credential: it serves all.
fn unnamed(given: Given<credentials::Origin>, faults: &mut Faults) -> Option<Credential> {
    let given = given.map(|origin| Definition { origin, impersonate: None });
    let loaded = load(&given, faults)?;
    let (name, enterprises) = ("default".to_owned(), vec![Pattern::all()]);
    Some(Credential { name, loaded, enterprises })
}

/// Reads and parses a credential, which sends no request.
fn load(given: &Given<Definition>, faults: &mut Faults) -> Option<LoadedCredential> {
    given.parse(faults, |definition: &Definition| {
        if let credentials::Origin::File(file) = &definition.origin {
            files::readable(file)?;
        }
        definition.load().map_err(|error| Wrong::new(error.to_string(), error.hint()))
    })
}

/// Where a fault of `origin` is said to be, within a sentence about another.
fn place(origin: &Origin) -> String {
    match origin.place() {
        (_, Some(line)) => format!(" (line {line})"),
        (_, None) => String::new(),
    }
}
