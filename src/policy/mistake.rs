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
        Self { place: Some(source.line_and_column(offset)), ..Self::of_file(problem, remedy) }
    }

    pub(super) fn of_file(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: None, problem: on_one_line(&problem.into()), remedy: on_one_line(&remedy.into()) }
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

/// Both texts may quote the file.
fn on_one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
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
