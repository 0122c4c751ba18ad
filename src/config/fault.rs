//! What is wrong with a configuration, told all at once.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{discreet::shown, source::Origin};

/// One thing that is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The flag (`--listen`), the variable (`COUNTERMAND_LISTEN`) or the key of the file
    /// (`server.listen`) that is at fault.
    pub key: String,
    /// The line of the file, from 1; `None` for a flag, a variable, or a key that is missing.
    pub line: Option<usize>,
    /// What is wrong. Never holds a secret; control characters are escaped.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// One line: `key (line n): problem; remedy`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, line, problem, remedy } = self;
        match line {
            Some(line) => write!(f, "{key} (line {line}): {problem}; {remedy}"),
            None => write!(f, "{key}: {problem}; {remedy}"),
        }
    }
}

/// Every fault of a configuration, those of the file in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    file: Option<PathBuf>,
    list: Vec<Fault>,
}

impl Faults {
    /// The faults, in the order in which they are shown.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter()
    }

    /// How many there are; at least one in the error of [`Config::load`](super::Config::load).
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing was found to be wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The configuration file that was read, when one was named.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Notes a fault, once.
    pub(super) fn add(&mut self, origin: &Origin, problem: impl Into<String>, remedy: impl Into<String>) {
        let (key, line) = origin.place();
        let (problem, remedy) = (shown(&problem.into()), shown(&remedy.into()));
        let fault = Fault { key: shown(&key), line, problem, remedy };
        // Several credentials may come by the same fault, such as that of a variable.
        if !self.list.contains(&fault) {
            self.list.push(fault);
        }
    }

    /// Takes what `result` holds, or notes its fault as one of `origin`.
    pub(super) fn note<T>(&mut self, origin: &Origin, result: Result<T, Wrong>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Wrong { problem, remedy }) => {
                self.add(origin, problem, remedy);
                None
            }
        }
    }

    pub(super) fn of_file(mut self, file: Option<PathBuf>) -> Self {
        self.file = file;
        self.list.sort_by_key(|fault| fault.line);
        self
    }
}

/// The faults, one line each.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            let end = if index + 1 == self.list.len() { "" } else { "\n" };
            write!(f, "{fault}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What is wrong with a value, before it is known where the value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

/// `problem; remedy`.
impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", shown(&self.problem), shown(&self.remedy))
    }
}

impl std::error::Error for Wrong {}
