//! The settings of the audit log.

use std::path::PathBuf;

/// The destination of the audit log, and what a failure to write it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The destination of the lines.
    pub destination: Destination,
    /// What happens to calls whose lines cannot be written.
    pub on_failure: OnFailure,
}

/// The destination of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file. It is appended to, or created in its directory.
    File(PathBuf),
}

/// What happens to calls when the audit log cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Calls fail.
    #[default]
    Fail,
    /// Calls are answered without a record.
    Continue,
}
