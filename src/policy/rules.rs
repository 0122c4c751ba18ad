//! A policy file that was loaded, and what it says.

use std::{collections::BTreeSet, fmt, io, path::Path};

use cedar_policy::{AuthorizationError, Authorizer, Context, Decision, Effect, PolicyId, PolicySet, Request};

use super::{
    Action, Lineage, Policies, entities, load,
    mistake::{Mistake, Mistakes},
    named::Named,
    schema,
};
use crate::{caller::Caller, file_watch};

/// The largest policy file, in bytes.
const LARGEST: usize = 1 << 20;

/// Validated policies.
pub struct Rules {
    set: PolicySet,
    named: Named,
    statements: Vec<Statement>,
    warnings: Vec<Mistake>,
}

/// One policy in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its `@id`, else `policy0`, `policy1` and so on, by its place in the file.
    pub id: String,
    /// Whether it permits or forbids.
    pub effect: Effect,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// As it stands in the file, annotations included.
    pub text: String,
}

/// What the rules say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) policies: Policies,
}

/// A verdict, and the policies that had no part in it since they could not be evaluated.
pub(super) struct Evaluation {
    pub(super) verdict: Verdict,
    pub(super) errors: Vec<EvaluationError>,
}

/// Why a policy could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationError {
    /// The policy's id.
    pub policy: String,
    /// Cedar's word.
    pub cause: String,
}

impl Rules {
    pub(super) fn new(
        set: PolicySet,
        named: Named,
        statements: Vec<Statement>,
        warnings: Vec<Mistake>,
    ) -> Self {
        Self { set, named, statements, warnings }
    }

    /// Reads and validates a file. Blocks.
    ///
    /// # Errors
    ///
    /// The file cannot be read; or see [`Self::parse`].
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let content = file_watch::read(file).map_err(|error| Self::unreadable(&error))?;
        Self::parse(&content)
    }

    /// What is wrong with a file that cannot be read.
    pub(super) fn unreadable(error: &io::Error) -> Mistakes {
        let remedy = "name a file of Cedar policies that this user may read";
        Mistakes(vec![Mistake::of_file(format!("it cannot be read: {error}"), remedy)])
    }

    /// Reads and validates the content of a file.
    ///
    /// # Errors
    ///
    /// It is over 1 MiB; or everything that is wrong with it, in the order of its lines: what is not UTF-8 or
    /// not Cedar, or else what the schema does not know, templates, ids that are taken, policies that can
    /// never apply, and entities that cannot exist.
    pub fn parse(content: &[u8]) -> Result<Self, Mistakes> {
        let wrong = |problem: String, remedy: &str| Mistakes(vec![Mistake::of_file(problem, remedy)]);
        if content.len() > LARGEST {
            return Err(wrong(format!("it has {} bytes", content.len()), "keep it below 1 MiB"));
        }
        let text = std::str::from_utf8(content).map_err(|error| {
            let problem = format!("it is not UTF-8 from byte {} on", error.valid_up_to());
            wrong(problem, "write it in UTF-8")
        })?;
        load::load(text)
    }

    /// The policies, in the order of their file.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// What looks odd and is not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    /// Whether some policy permits anything; nothing else ever is.
    #[must_use]
    pub fn permit_something(&self) -> bool {
        self.statements.iter().any(|statement| statement.effect == Effect::Permit)
    }

    /// The number that all resources have in common which these rules cannot tell apart; see [`Named`].
    pub(super) fn place(&self, resource: Lineage<'_>) -> u32 {
        self.named.place(resource)
    }

    /// Asks Cedar.
    ///
    /// A policy that cannot be evaluated is skipped, as Cedar has it, unless it forbids: then nothing is
    /// permitted, since it may have been written to stop this very call. The validation leaves little that
    /// could be the cause: a number that overflows, an expression too deep for the stack.
    pub(super) fn evaluate(&self, caller: &Caller, action: Action, resource: Lineage<'_>) -> Evaluation {
        let entities = entities::all(caller, resource);
        let asked = schema::resource(resource).swap_remove(0);
        let (principal, action) = (schema::caller(caller), schema::action(action));
        let request = Request::new(principal, action, asked, Context::empty(), None)
            .expect("a request can only be wrong by a schema, and it is given none");
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        let mut errors = Vec::new();
        for error in response.diagnostics().errors() {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let (policy, cause) = (error.policy_id().to_string(), error.inner().to_string());
            errors.push(EvaluationError { policy, cause });
        }
        let failed = errors.iter().map(|error| error.policy.as_str());
        let broken: BTreeSet<&str> = failed.filter(|id| self.forbids(id)).collect();
        let allowed = response.decision() == Decision::Allow && broken.is_empty();
        let reasons: BTreeSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        // What permits is no reason for a denial that a broken policy made of it.
        let decided = |id: &str| self.forbids(id) != allowed && (reasons.contains(id) || broken.contains(id));
        let ids = self.statements.iter().map(|statement| &statement.id);
        let policies = ids.filter(|id| decided(id)).cloned().collect();
        Evaluation { verdict: Verdict { allowed, policies }, errors }
    }

    fn forbids(&self, id: &str) -> bool {
        self.set.policy(&PolicyId::new(id)).is_some_and(|policy| policy.effect() == Effect::Forbid)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("statements", &self.statements).finish_non_exhaustive()
    }
}
