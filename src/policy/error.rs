//! Errors and warnings of a policy file.

use std::fmt;

/// An error or a warning, its position and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// Line and column, both from 1, the column in characters; `None` for an error of the whole file.
    pub position: Option<(usize, usize)>,
    /// The problem, with the id of the policy if there is one.
    pub problem: String,
    /// How to correct it.
    pub hint: String,
}

/// Every error of a policy file, at least one, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl PolicyError {
    pub(super) fn new(
        position: Option<(usize, usize)>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { position, problem: on_one_line(&problem.into()), hint: on_one_line(&hint.into()) }
    }

    /// `line 3, column 7: problem`, or the problem alone.
    #[must_use]
    pub fn located(&self) -> String {
        match self.position {
            Some((line, column)) => format!("line {line}, column {column}: {}", self.problem),
            None => self.problem.clone(),
        }
    }
}

impl PolicyErrors {
    pub(super) fn of_file(problem: impl Into<String>, hint: &str) -> Self {
        Self(vec![PolicyError::new(None, problem, hint)])
    }
}

/// Problem and hint may quote the file.
fn on_one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `line 3, column 7: problem; hint`.
impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.located(), self.hint)
    }
}

/// The errors, one line each.
impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(PolicyError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for PolicyErrors {}
