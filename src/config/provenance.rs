//! The place that a value came from.

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag, such as `--listen`.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A key of the file, dotted, and its line, from 1; `None` for a key that is missing.
    Key { key: String, line: Option<usize> },
}

impl Origin {
    /// A key that is missing from the file.
    pub(crate) fn missing(key: impl Into<String>) -> Self {
        Self::Key { key: key.into(), line: None }
    }

    /// The name to show, and the line of the file.
    pub(crate) fn place(&self) -> (String, Option<usize>) {
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

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}
