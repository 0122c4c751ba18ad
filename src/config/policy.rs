//! `[policy]`: who may do what.

use std::path::{Path, PathBuf};

use super::{
    environment::Environment,
    fault::Faults,
    files,
    source::{Given, Origin},
    table::Section,
};
use crate::policy::rules::Rules;

/// The key of the section.
pub(super) const SECTION: &str = "policy";

/// What there is of a policy.
pub(super) struct Policed {
    /// Whether there is one, right or not.
    pub(super) is_meant: bool,
    /// Its file, whose content is right. `None` when there is none, or when it is not right, and then each
    /// of its faults is noted.
    pub(super) file: Option<PathBuf>,
}

impl Policed {
    pub(super) fn read(
        flag: Option<PathBuf>,
        environment: &mut Environment,
        root: &mut Section<'_>,
        faults: &mut Faults,
    ) -> Self {
        let is_there = root.has(SECTION);
        let mut section = root.section(SECTION, faults);
        let names_a_file = section.has("file");
        let given = Given::flag("--policy", flag)
            .or(environment.path("COUNTERMAND_POLICY"))
            .or(section.path("file", faults));
        if is_there && !names_a_file && given.is_none() {
            let problem = "this is missing, so that nothing says who may call";
            let remedy =
                r#"name a Cedar policy, for example file = "policy.cedar", or leave the section out"#;
            faults.add(&section.missing("file"), problem, remedy);
        }
        section.finish(faults);
        let is_meant = is_there || given.is_some();
        let file = given.and_then(|Given { value, origin }| {
            check(&value, &origin, faults)?;
            Some(value)
        });
        Self { is_meant, file }
    }
}

/// Notes every fault of the file, each with its place in it.
fn check(file: &Path, origin: &Origin, faults: &mut Faults) -> Option<()> {
    faults.note(origin, files::readable(file))?;
    let Err(mistakes) = Rules::read(file) else { return Some(()) };
    for mistake in &mistakes.0 {
        let problem = format!("{}: {}", file.display(), mistake.located());
        faults.add(origin, problem, &mistake.remedy);
    }
    None
}
