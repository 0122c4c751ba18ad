//! `[[credentials]]`: what calls upstream carry. One, or none at all for application default credentials.

use std::path::PathBuf;

use super::{
    environment::{Environment, GOOGLE_APPLICATION_CREDENTIALS},
    fault::{Faults, Wrong},
    files,
    source::Given,
    table::Section,
};
use crate::credentials::{Definition, Origin};

/// The longest name; it stands in every line of the audit log.
const LONGEST_NAME: usize = 63;

/// A Google credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What logs call it: 1 to 63 of `A-Z a-z 0-9 - _ .`; `default` for one of the command line or the
    /// environment.
    pub name: String,
    /// The service-account key file; it exists and can be read.
    pub file: PathBuf,
}

impl Credential {
    /// What it is made from.
    #[must_use]
    pub fn definition(&self) -> Definition {
        Definition { origin: Origin::File(self.file.clone()), impersonate: None }
    }

    /// `None` when there is none that can be used, and then the fault is noted; but that none is given at
    /// all is no fault when the file, which may hold it, `is_whole` not.
    pub(super) fn read(
        flag: Option<PathBuf>,
        environment: &mut Environment,
        root: &mut Section<'_>,
        is_whole: bool,
        faults: &mut Faults,
    ) -> Option<Self> {
        let written_at = root.missing("credentials");
        let of_file = of_file(root, faults);
        let replaced =
            Given::flag("--credentials", flag).or(environment.path("COUNTERMAND_CREDENTIALS")).map(unnamed);
        let fallback = environment
            .path(GOOGLE_APPLICATION_CREDENTIALS)
            // Google's libraries take an empty one for none.
            .filter(|given| !given.value.as_os_str().is_empty())
            .map(unnamed);

        let given = match (replaced, of_file) {
            (Some(given), _) => given,
            (None, Written::Once(given)) => given,
            (None, Written::Wrongly) => return None,
            (None, Written::Never) => match fallback {
                Some(given) => given,
                None => {
                    if is_whole {
                        faults.add(
                            &written_at,
                            "there is no credential",
                            "give --credentials FILE, a [[credentials]] section with name and file, or the \
                             variable GOOGLE_APPLICATION_CREDENTIALS, each naming a service-account key",
                        );
                    }
                    return None;
                }
            },
        };
        given.parse(faults, check)?;
        Some(given.value)
    }
}

/// What the file's `[[credentials]]` come to.
enum Written {
    Never,
    Once(Given<Credential>),
    Wrongly,
}

fn of_file(root: &mut Section<'_>, faults: &mut Faults) -> Written {
    let before = faults.len();
    let mut sections = root.sections("credentials", faults).into_iter();
    let first = sections.next().and_then(|first| section(first, faults));
    for second in sections {
        let problem = "this version does not support a second credential yet";
        faults.add(&second.origin, problem, "leave one [[credentials]] section");
    }
    match first {
        _ if faults.len() > before => Written::Wrongly,
        None => Written::Never,
        Some(given) => Written::Once(given),
    }
}

fn section(section: Given<Section<'_>>, faults: &mut Faults) -> Option<Given<Credential>> {
    let Given { value: mut section, origin } = section;
    for (key, example) in [
        ("name", r#"give one for the logs, for example name = "emea""#),
        ("file", r#"name a service-account key file, for example file = "emea.json""#),
    ] {
        if !section.has(key) {
            faults.add(&origin.within(key), "this is missing", example);
        }
    }
    let name = section.text("name", faults);
    let file = section.path("file", faults);
    section.not_yet("impersonate", faults);
    section.not_yet("enterprises", faults);
    section.finish(faults);
    let (name, file) = (name?, file?);
    let value = Credential { name: name.parse(faults, valid_name)?, file: file.value };
    Some(Given { value, origin: file.origin })
}

fn valid_name(name: &str) -> Result<String, Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    let remedy = format!("give 1 to {LONGEST_NAME} letters, digits, '-', '_' or '.'");
    Err(Wrong::new(format!("{name:?} is not a name"), remedy))
}

fn unnamed(given: Given<PathBuf>) -> Given<Credential> {
    let Given { value: file, origin } = given;
    Given { value: Credential { name: "default".to_owned(), file }, origin }
}

/// What can be said of a credential before it is used.
fn check(credential: &Credential) -> Result<(), Wrong> {
    files::readable(&credential.file)?;
    credential.definition().check().map_err(|error| {
        Wrong::new(
            error.to_string(),
            "name a credential file, as Google Cloud's console or gcloud makes them",
        )
    })
}
