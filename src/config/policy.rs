//! `[policy]`: who may do what.

use std::path::PathBuf;

use super::{
    environment::Environment,
    fault::Faults,
    files,
    source::{Given, Origin},
    table::{Section, Unknown},
};
use crate::policy::PolicyFile;

/// The key of the section.
pub(super) const SECTION: &str = "policy";

/// What is said of a policy. Listeners depend on whether there is one, and come before it in the file.
pub(super) struct Policed<'a> {
    section: Section<'a>,
    is_there: bool,
    given: Option<Given<PathBuf>>,
}

impl<'a> Policed<'a> {
    pub(super) fn find(
        flag: Option<PathBuf>,
        environment: &mut Environment,
        root: &mut Section<'a>,
        faults: &mut Faults,
    ) -> Self {
        let is_there = root.has(SECTION);
        let section = root.section(SECTION, faults);
        let given = Given::flag("--policy", flag).or(environment.path("COUNTERMAND_POLICY"));
        Self { section, is_there, given }
    }

    /// Whether a policy is meant, right or not, in whatever spelling among the file's `unknown` keys.
    pub(super) fn is_meant(&self, unknown: &Unknown) -> bool {
        self.is_there || self.given.is_some() || unknown.means(SECTION)
    }

    /// The policy file, whose content is right. `None` when there is none, or when it is not right, and then
    /// each of its faults is noted.
    pub(super) fn read(self, faults: &mut Faults) -> Option<PolicyFile> {
        let Self { mut section, is_there, given } = self;
        let given = given.or(section.path("file", faults));
        if is_there && given.is_none() && section.lacks("file") {
            let problem = "this is missing, so that nothing says who may call";
            let remedy =
                r#"name a Cedar policy, for example file = "policy.cedar", or leave the section out"#;
            faults.add(&section.missing("file"), problem, remedy);
        }
        section.finish(faults);
        let Given { value, origin } = given?;
        load(value, &origin, faults)
    }
}

/// Notes every fault of the file, each with its place in it.
fn load(path: PathBuf, origin: &Origin, faults: &mut Faults) -> Option<PolicyFile> {
    faults.note(origin, files::readable(&path))?;
    let shown = path.display().to_string();
    let errors = match PolicyFile::load(path) {
        Ok(file) => return Some(file),
        Err(errors) => errors,
    };
    for error in &errors {
        faults.add(origin, format!("{shown}: {}", error.located()), &error.hint);
    }
    None
}

#[cfg(test)]
mod tests;
