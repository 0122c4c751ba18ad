//! What is wrong with a policy file, told all at once.

use std::fmt;

use super::source::Source;

/// One thing that is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line and column, both from 1, the column in characters; `None` for what concerns the whole file.
    pub place: Option<(usize, usize)>,
    /// What is wrong. It names the policy where there is one.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// Everything that is wrong with a policy file; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistake {
    pub(super) fn at(
        source: &Source<'_>,
        offset: usize,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (problem, remedy) = (problem.into(), remedy.into());
        Self { place: Some(source.line_and_column(offset)), problem, remedy }
    }

    pub(super) fn of_file(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// `line 3, column 7: problem`, or the problem alone.
    #[must_use]
    pub fn located(&self) -> String {
        match self.place {
            Some((line, column)) => format!("line {line}, column {column}: {}", self.problem),
            None => self.problem.clone(),
        }
    }
}

/// `line 3, column 7: problem; remedy`.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.located(), self.remedy)
    }
}

/// The mistakes, one line each.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(Mistake::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Mistakes {}
