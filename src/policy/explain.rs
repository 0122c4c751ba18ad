//! Why the rules say what they say.

use std::collections::BTreeMap;

use super::{
    Action, Lineage,
    entities::{self, Value},
    rules::{Evaluation, EvaluationError, Rules, Statement, Verdict},
};
use crate::caller::Caller;

/// A decision and what is behind it.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// Whether the call is permitted.
    pub allowed: bool,
    /// The policies that decided, in the order of their file; none when it is denied because nothing
    /// permits it.
    pub policies: Vec<&'a Statement>,
    /// The policies that cannot be evaluated for this call.
    pub errors: Vec<EvaluationError>,
    /// The caller's attributes, as policies see them; its tags are its claims.
    pub attributes: BTreeMap<&'static str, Value>,
}

impl Rules {
    /// Decides as a call would be, and says why.
    #[must_use]
    pub fn explain(&self, caller: &Caller, action: Action, resource: Lineage<'_>) -> Explanation<'_> {
        let Evaluation { verdict: Verdict { allowed, policies }, errors } =
            self.evaluate(caller, action, resource);
        let decided = |statement: &&Statement| policies.contains(&statement.id);
        let policies = self.statements().iter().filter(decided).collect();
        Explanation { allowed, policies, errors, attributes: entities::attributes(caller) }
    }
}

impl Statement {
    /// The line that begins with its effect, without annotations and comments before it.
    #[must_use]
    pub fn first_line(&self) -> &str {
        let effect = self.effect.to_string();
        let mut lines = self.text.lines().map(str::trim);
        let first = lines.find(|line| !line.starts_with(['@', '/']) && line.starts_with(&effect));
        first.or(self.text.lines().next()).unwrap_or_default()
    }
}
