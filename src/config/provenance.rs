//! The provenance of values.

/// The source of a value: a flag, a variable, or a key of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// A flag, such as `--listen`.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A dotted key of the file, and its line, from 1. The line is `None` if the key is missing.
    Key { key: String, line: Option<usize> },
}

impl Provenance {
    /// A key that is missing from the file.
    pub(crate) fn missing(key: impl Into<String>) -> Self {
        Self::Key { key: key.into(), line: None }
    }

    /// The name of the flag, variable or key, and the line of the key.
    pub(crate) fn key_and_line(&self) -> (String, Option<usize>) {
        match self {
            Self::Flag(flag) => ((*flag).to_owned(), None),
            Self::Variable(name) => (name.clone(), None),
            Self::Key { key, line } => (key.clone(), *line),
        }
    }

    /// ` (line n)` for a key of the file, otherwise nothing.
    pub(crate) fn line_in_brackets(&self) -> String {
        match self {
            Self::Key { line: Some(line), .. } => format!(" (line {line})"),
            _ => String::new(),
        }
    }
}

/// A value and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) origin: Provenance,
}
