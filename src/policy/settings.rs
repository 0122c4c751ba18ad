//! The settings of the policy.

use std::path::PathBuf;

use crate::config::{ConfigErrors, FilePath, Invalid, Section, Words, settings};

settings! {
    /// `[policy]`: the permissions of callers.
    pub struct PolicySettings in "policy" {
        /// The Cedar policy, which defines the permissions of callers. Without a policy, callers on loopback and unix
        /// sockets may do everything.
        file: Option<PathBuf>, FilePath, env "COUNTERMAND_POLICY", flag "--policy FILE";
        /// `enforce` denies what the policy does not permit. `shadow` allows every call, and records in the audit log
        /// what the policy would have denied. For listeners, a policy in shadow mode counts as no policy.
        mode: PolicyMode = "enforce",
            Words(&[("enforce", PolicyMode::Enforce), ("shadow", PolicyMode::Shadow)]), env "COUNTERMAND_POLICY_MODE";
    }
}

/// The effect of the policy's decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PolicyMode {
    /// A call that the policy does not permit is PERMISSION_DENIED.
    #[default]
    Enforce,
    /// Every call is allowed. The audit log records what the policy would have denied.
    Shadow,
}

impl PolicySettings {
    /// Whether the settings name a policy that is enforced.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.file.is_some() && self.mode == PolicyMode::Enforce
    }

    /// Adds an error if the section is in the file (`is_in_file`), or a mode is given, and no policy is named.
    pub(crate) fn check(&self, section: &Section, is_in_file: bool, errors: &mut ConfigErrors) {
        if is_in_file && section.lacks("file") {
            let hint = r#"name a Cedar policy, for example file = "policy.cedar", or leave the section out"#;
            let problem = "this is missing, so no policy would apply";
            section.invalid("file", Invalid::new(problem, hint), errors);
        } else if section.origin("mode").is_some() && self.file.is_none() && !is_in_file {
            let hint = "name a policy, or leave the mode out";
            section.invalid("mode", Invalid::new("it requires a policy, and there is none", hint), errors);
        }
    }
}
