//! One thing that was found, and how all of them are printed.

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

/// One thing that was found. No text of it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is about: `credential emea`, `upstream`, or a key of the configuration.
    subject: String,
    level: Level,
    /// What was found.
    finding: String,
    /// What would be right; none when it is.
    cure: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and should be mended.
    Warning,
    /// `serve` would not start, or not serve all that it is to.
    Fault,
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, finding: impl Into<String>) -> Self {
        let (subject, finding) = (subject.into(), finding.into());
        Self { subject, level: Level::Ok, finding, cure: None }
    }

    pub(super) fn warning(
        subject: impl Into<String>,
        finding: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, cure: Some(cure.into()), ..Self::ok(subject, finding) }
    }

    pub(super) fn fault(
        subject: impl Into<String>,
        finding: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fault, cure: Some(cure.into()), ..Self::ok(subject, finding) }
    }
}

impl From<&ConfigError> for Finding {
    fn from(fault: &ConfigError) -> Self {
        let ConfigError { key, line, problem, hint } = fault;
        let subject = match line {
            Some(line) => format!("{key} (line {line})"),
            None => key.clone(),
        };
        Self::fault(subject, problem, hint)
    }
}

/// One line: `subject: finding; cure`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, level: _, finding, cure } = self;
        match cure {
            None => write!(f, "{subject}: {finding}"),
            // What Google says may end with a full stop.
            Some(cure) => write!(f, "{subject}: {}; {cure}", finding.trim_end_matches('.')),
        }
    }
}

/// Prints all, and answers what they come to: any fault is a failure, a warning is none.
pub(super) fn print(findings: &[Finding], format: Format) -> Exit {
    let faults = findings.iter().filter(|finding| finding.level == Level::Fault).count();
    let printed = match format {
        Format::Text => findings.iter().map(print_line).fold(Exit::Ok, worse),
        Format::Json => output::to_stdout(&json!({"findings": findings, "faults": faults}).to_string()),
    };
    if faults > 0 { Exit::Failed } else { printed }
}

fn print_line(finding: &Finding) -> Exit {
    match finding.level {
        Level::Ok => return output::to_stdout(&finding.to_string()),
        Level::Warning => output::complain(&format!("warning: {finding}")),
        Level::Fault => output::complain(&finding.to_string()),
    }
    Exit::Ok
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Ok { other } else { one }
}
