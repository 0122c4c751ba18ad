//! The settings of the policy.

use std::path::PathBuf;

use crate::config::{ConfigErrors, FilePath, Invalid, Section, settings};

settings! {
    /// `[policy]`: the permissions of callers.
    pub struct PolicySettings in "policy" {
        /// The Cedar policy, which defines the permissions of callers. Without a policy, callers on loopback and unix
        /// sockets may do everything.
        file: Option<PathBuf>, FilePath, env "COUNTERMAND_POLICY", flag "--policy FILE";
    }
}

impl PolicySettings {
    /// Adds an error if the section is in the file (`is_in_file`) and names no policy.
    pub(crate) fn check(&self, section: &Section, is_in_file: bool, errors: &mut ConfigErrors) {
        if is_in_file && section.lacks("file") {
            let hint = r#"name a Cedar policy, for example file = "policy.cedar", or leave the section out"#;
            let problem = "this is missing, so no policy would apply";
            section.invalid("file", Invalid::new(problem, hint), errors);
        }
    }
}
