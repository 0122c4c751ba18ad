//! The settings of the credentials.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{Definition, Machine, Origin, Pattern, application_default::ApplicationDefault};
use crate::{
    config::{self, ConfigErrors, FilePath, Given, Invalid, List, Parsed, Section, Sources, settings},
    project_id,
};

/// The three forms of application default credentials, in the order in which they are looked for.
const APPLICATION_DEFAULT: &str = "application default credentials: the variable \
    GOOGLE_APPLICATION_CREDENTIALS naming a credential file, the file that gcloud auth application-default \
    login writes, or the metadata server of Google Cloud";

/// The key of the sections.
pub(crate) const SECTIONS: &str = "credentials";

/// The longest name, in bytes. Every line of the audit log contains the name.
const MAX_NAME: usize = 63;

/// The longest email (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const MAX_EMAIL: usize = 254;

settings! {
    /// The credential that replaces all others.
    pub struct CredentialOverride in "" {
        /// A Google credential file for all enterprises, in place of every `[[credentials]]` of the configuration.
        /// Without either, application default credentials are used.
        credentials: Option<PathBuf>, FilePath, env "COUNTERMAND_CREDENTIALS", flag "--credentials FILE";
    }
}

settings! {
    /// `[[credentials]]`: a Google credential, and the enterprises that it serves.
    pub struct CredentialSettings in "credentials" {
        /// The name in logs, unlike that of any other credential.
        name: Option<String>, Parsed { form: "1 to 63 letters, digits, \"-\", \"_\" or \".\"", parse: name };
        /// A Google credential file; its `type` says of which kind. Without one, application default credentials are
        /// used.
        file: Option<PathBuf>, FilePath;
        /// The email of a service account to impersonate.
        impersonate: Option<String>, Parsed { form: "an email", parse: email };
        /// The id of the Google project whose quota its calls count against (see `[[quota]]`). Without it, the project is
        /// the file's `quota_project_id`, otherwise that in the email of the impersonated account, otherwise the file's
        /// `project_id`.
        project: Option<String>, Parsed { form: "the id of a Google project", parse: project_id::parse };
        /// The enterprises that it serves: an id as in enterprises/ID, or the beginning of ids and a `*`. Without it,
        /// the credential serves all that no other does. The most specific pattern wins.
        enterprises: Option<Vec<Pattern>>, List { form: "\"LC01\" or \"LC01*\"", or_one: false, parse: pattern };
    }
}

/// A credential of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialConfig {
    /// The unique name in logs: 1 to 63 of `A-Z a-z 0-9 - _ .`. A credential of the command line, the environment or
    /// Google Cloud is named `default`.
    pub name: String,
    /// The origin of the credential, the account that it impersonates, and its project.
    pub definition: Definition,
    /// The enterprises that the credential serves: at least one pattern, and no pattern of another credential.
    pub enterprises: Vec<Pattern>,
}

impl CredentialConfig {
    /// Reads the credentials, each with the provenance for its errors. Returns at least one, unless it adds an error.
    ///
    /// `is_complete` is false when a part of the configuration file was not read. Without a credential, that is no
    /// error, because the missing part may hold one.
    pub(crate) fn read_all(
        sections: Vec<Section>,
        is_complete: bool,
        machine: Machine,
        sources: &mut Sources,
    ) -> Vec<Given<Self>> {
        let before = sources.errors.len();
        let read: Vec<_> = sections.into_iter().map(|section| Entry::read(section, sources)).collect();
        report_overlaps(&read, &mut sources.errors);
        let is_valid = sources.errors.len() == before;

        let mut flags = Section::empty("");
        let CredentialOverride { credentials } = CredentialOverride::read(&mut flags, sources);
        let mut default = ApplicationDefault::new(&mut sources.variables, machine);
        if let (Some(file), Some(origin)) = (credentials, flags.origin("credentials")) {
            return vec![only(Given { value: Origin::File(file), origin: origin.clone() })];
        }
        if !read.is_empty() {
            return read.into_iter().filter_map(|entry| entry.resolve(&mut default, sources)).collect();
        }
        if !is_valid || !is_complete {
            return Vec::new();
        }
        let nowhere = config::Provenance::missing(SECTIONS);
        if let Some(found) = default.find(&nowhere) {
            return vec![only(found)];
        }
        let hint = format!("give --credentials FILE, a [[credentials]] section, or {APPLICATION_DEFAULT}");
        sources.errors.add(&nowhere, "there is no credential", hint);
        Vec::new()
    }
}

/// The only credential, which serves all enterprises.
fn only(given: Given<Origin>) -> Given<CredentialConfig> {
    let Given { value, origin } = given;
    let definition = Definition { origin: value, impersonate: None, project: None };
    let name = "default".to_owned();
    Given { value: CredentialConfig { name, definition, enterprises: vec![Pattern::all()] }, origin }
}

/// A section with its valid settings.
struct Entry {
    section: Section,
    settings: CredentialSettings,
    /// The patterns, each with its provenance. Empty if they are invalid.
    enterprises: Vec<Given<Pattern>>,
    /// Whether the section names a file, validly or not. An invalid or misspelt setting has already added an error.
    has_file: bool,
}

impl Entry {
    fn read(mut section: Section, sources: &mut Sources) -> Self {
        let settings = CredentialSettings::read(&mut section, sources);
        let lacks = |key| section.lacks(key);
        if lacks("name") {
            let hint = r#"give one for the logs, for example name = "emea""#;
            section.invalid("name", Invalid::new("this is missing", hint), &mut sources.errors);
        }
        let patterns = settings.enterprises.iter().flatten().cloned();
        let mut enterprises: Vec<_> = patterns
            .zip(section.items("enterprises"))
            .map(|(value, origin)| Given { value, origin: origin.clone() })
            .collect();
        if lacks("enterprises") {
            enterprises.push(Given { value: Pattern::all(), origin: section.section_origin() });
        }
        let has_file = !lacks("file");
        section.finish(&mut sources.errors);
        Self { section, settings, enterprises, has_file }
    }

    fn resolve(
        self,
        default: &mut ApplicationDefault,
        sources: &mut Sources,
    ) -> Option<Given<CredentialConfig>> {
        let Self { section, settings, enterprises, has_file } = self;
        let CredentialSettings { name, file, impersonate, project, enterprises: _ } = settings;
        let Given { value, origin } = match (file, has_file) {
            (Some(file), _) => Given { value: Origin::File(file), origin: section.origin("file")?.clone() },
            (None, true) => return None,
            (None, false) => match default.find(&section.section_origin()) {
                Some(found) => found,
                None => {
                    let problem = "this is missing, and there are no application default credentials";
                    let hint = format!(
                        r#"name a credential file, for example file = "emea.json", or have {APPLICATION_DEFAULT}"#
                    );
                    section.invalid("file", Invalid::new(problem, hint), &mut sources.errors);
                    return None;
                }
            },
        };
        let definition = Definition { origin: value, impersonate, project };
        let enterprises = enterprises.into_iter().map(|given| given.value).collect();
        Some(Given {
            value: CredentialConfig { name: name.unwrap_or_default(), definition, enterprises },
            origin,
        })
    }
}

/// Adds an error for each name and each pattern that an earlier section has. A pattern that covers another is no error:
/// the more specific one wins.
fn report_overlaps(entries: &[Entry], errors: &mut ConfigErrors) {
    let mut names: HashMap<&str, &config::Provenance> = HashMap::new();
    let mut patterns: HashMap<&Pattern, (usize, &config::Provenance)> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let (Some(name), Some(origin)) = (&entry.settings.name, entry.section.origin("name")) {
            if let Some(first) = names.get(name.as_str()) {
                let problem = format!("another credential has this name too{}", first.line_in_brackets());
                errors.add(origin, problem, "give each credential a name of its own");
            }
            names.entry(name).or_insert(origin);
        }
        for Given { value: pattern, origin } in &entry.enterprises {
            if let Some((other, first)) = patterns.get(pattern) {
                let first = first.line_in_brackets();
                let (problem, hint) = match (*other == index, *pattern == Pattern::all()) {
                    (true, _) => (format!("this pattern is given twice{first}"), "give it once"),
                    (false, true) => (
                        format!(
                            "this credential serves all enterprises that no other does, as another does{first}"
                        ),
                        "give one of the two the enterprises that it serves",
                    ),
                    (false, false) => (
                        format!("another credential has this pattern too{first}"),
                        "give it to one credential only",
                    ),
                };
                errors.add(origin, problem, hint);
            }
            patterns.entry(pattern).or_insert((index, origin));
        }
    }
}

fn pattern(text: &str, _: &Path) -> Result<Pattern, Invalid> {
    Pattern::parse(text).map_err(|error| {
        let hint = r#"give an id as in enterprises/ID, or the beginning of ids and a *, "LC01" or "LC01*""#;
        Invalid::new(format!("this matches no enterprise: {error}"), hint)
    })
}

fn name(text: &str, _: &Path) -> Result<String, Invalid> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_NAME).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    let hint = format!("give 1 to {MAX_NAME} letters, digits, '-', '_' or '.'");
    Err(Invalid::new("this is not a name", hint))
}

/// The email becomes part of a URL's path, where these characters need no escape.
fn email(text: &str, _: &Path) -> Result<String, Invalid> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    match text.split_once('@') {
        Some((account, domain))
            if is_part(account) && is_part(domain) && domain.contains('.') && text.len() <= MAX_EMAIL =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Invalid::new(
            "this is not the email of a service account",
            "give one like proxy@project.iam.gserviceaccount.com",
        )),
    }
}
