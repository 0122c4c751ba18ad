//! Findings and their output.

use std::fmt;

use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{
        exit::Exit,
        output::{self, Format},
    },
    config::ConfigError,
};

/// One result of the check. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// `credential emea`, `upstream`, or a key of the configuration.
    subject: String,
    level: Level,
    finding: String,
    /// How to correct it. `None` for a finding that is OK.
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// `serve` would start and serve every call.
    Warning,
    /// `serve` would not start, or would not serve every call.
    Error,
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, finding: impl Into<String>) -> Self {
        let (subject, finding) = (subject.into(), finding.into());
        Self { subject, level: Level::Ok, finding, hint: None }
    }

    pub(super) fn warning(
        subject: impl Into<String>,
        finding: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, hint: Some(hint.into()), ..Self::ok(subject, finding) }
    }

    pub(super) fn error(
        subject: impl Into<String>,
        finding: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { level: Level::Error, hint: Some(hint.into()), ..Self::ok(subject, finding) }
    }
}

impl From<&ConfigError> for Finding {
    fn from(error: &ConfigError) -> Self {
        let ConfigError { key, line, problem, hint } = error;
        let subject = match line {
            Some(line) => format!("{key} (line {line})"),
            None => key.clone(),
        };
        Self::error(subject, problem, hint)
    }
}

/// One line: `subject: finding; hint`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, level: _, finding, hint } = self;
        match hint {
            None => write!(f, "{subject}: {finding}"),
            // Google's messages may end with a full stop.
            Some(hint) => write!(f, "{subject}: {}; {hint}", finding.trim_end_matches('.')),
        }
    }
}

/// Prints the findings. Any error is a failure. A warning is not.
pub(super) fn print(findings: &[Finding], format: Format) -> Exit {
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    let printed = match format {
        Format::Text => findings.iter().map(print_line).fold(Exit::Ok, first_failure),
        Format::Json => output::to_stdout(&json!({"findings": findings, "errors": errors}).to_string()),
    };
    if errors > 0 { Exit::Failed } else { printed }
}

fn print_line(finding: &Finding) -> Exit {
    match finding.level {
        Level::Ok => return output::to_stdout(&finding.to_string()),
        Level::Warning => output::complain(&format!("warning: {finding}")),
        Level::Error => output::complain(&finding.to_string()),
    }
    Exit::Ok
}

fn first_failure(one: Exit, other: Exit) -> Exit {
    if one == Exit::Ok { other } else { one }
}
