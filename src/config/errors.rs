//! The errors of a configuration, which are reported all at once. No error text contains a value that may be a
//! secret. An error may quote a number, a duration or an address to listen on. For any other value it has the key and
//! the line only.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::provenance::Provenance;

/// One error: its key, the problem, and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The flag (`--listen`), the variable (`COUNTERMAND_LISTEN`) or the key of the file (`server.listen`).
    pub key: String,
    /// The line of the file, from 1; `None` for a flag, a variable, or a key that is missing.
    pub line: Option<usize>,
    /// The problem. Never contains a secret.
    pub problem: String,
    /// How to correct it.
    pub hint: String,
}

/// One line: `key (line n): problem; hint`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, line, problem, hint } = self;
        match line {
            Some(line) => write!(f, "{key} (line {line}): {problem}; {hint}"),
            None => write!(f, "{key}: {problem}; {hint}"),
        }
    }
}

/// Every error of a configuration. The errors of the file are in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    file: Option<PathBuf>,
    list: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The errors, in the order in which they are shown.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.list.iter()
    }

    /// The number of errors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The configuration file, if it could be read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Adds an error, unless the same error was added before. Several credentials may share an error of a variable.
    pub(crate) fn add(&mut self, origin: &Provenance, problem: impl Into<String>, hint: impl Into<String>) {
        let (key, line) = origin.key_and_line();
        let error = ConfigError { key, line, problem: problem.into(), hint: hint.into() };
        if !self.list.contains(&error) {
            self.list.push(error);
        }
    }

    /// Whether there is an error at `origin`.
    pub(crate) fn has(&self, origin: &Provenance) -> bool {
        let (key, line) = origin.key_and_line();
        self.list.iter().any(|error| error.key == key && error.line == line)
    }

    /// Returns the value of `result`, or adds its error at `origin`.
    pub(crate) fn ok<T>(&mut self, origin: &Provenance, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|Invalid { problem, hint }| self.add(origin, problem, hint)).ok()
    }

    /// Sorts the errors by line. `file` is the configuration file, if it could be read.
    pub(crate) fn sorted(mut self, file: Option<PathBuf>) -> Self {
        self.file = file;
        self.list.sort_by_key(|error| error.line);
        self
    }
}

/// The errors, one line each.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.list.iter().enumerate() {
            let end = if index + 1 == self.list.len() { "" } else { "\n" };
            write!(f, "{error}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The error of a value, without the key and the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {hint}")]
pub(crate) struct Invalid {
    pub(crate) problem: String,
    pub(crate) hint: String,
}

impl Invalid {
    pub(crate) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }
}
