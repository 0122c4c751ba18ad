//! Validated policies and the decisions that Cedar makes by them.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{AuthorizationError, Authorizer, Context, Decision, Effect, PolicyId, PolicySet, Request};

use super::{
    Action, Lineage, Policies,
    entities::{self, AttributeValue},
    parse::PolicyError,
    resource_index::ResourceIndex,
};
use crate::caller::Caller;

/// Validated policies.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The policies, in the order of their file.
    pub statements: Vec<Statement>,
    /// Warnings about parts of the file that are valid but may not have the intended meaning.
    pub warnings: Vec<PolicyError>,
    pub(super) set: PolicySet,
    pub(super) named: ResourceIndex,
}

/// One policy in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its `@id`. Without one, `policy0`, `policy1` and so on, by its number in the file.
    pub id: String,
    /// Whether it permits or forbids.
    pub effect: Effect,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Its text in the file, with its annotations.
    pub text: String,
}

/// A decision and the policies that determined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) policies: Policies,
}

/// The error of a policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationError {
    /// The policy's id.
    pub policy: String,
    /// Cedar's message.
    pub cause: String,
}

/// A decision and its reasons, for `check --explain`.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// Whether the call is permitted.
    pub allowed: bool,
    /// The policies that determined the decision, in the order of their file. Empty if no policy permits the call.
    pub policies: Vec<&'a Statement>,
    /// The policies that cannot be evaluated for this call.
    pub errors: Vec<EvaluationError>,
    /// The caller's attributes, as policies see them. The caller's tags are its claims.
    pub attributes: BTreeMap<&'static str, AttributeValue>,
}

impl Rules {
    /// Whether any policy is a `permit`. Without one, every call is denied.
    #[must_use]
    pub fn has_permit(&self) -> bool {
        self.statements.iter().any(|statement| statement.effect == Effect::Permit)
    }

    /// Decides as for a call, and gives the reasons.
    #[must_use]
    pub fn explain(&self, caller: &Caller, action: Action, resource: Lineage<'_>) -> Explanation<'_> {
        let (Verdict { allowed, policies }, errors) = self.evaluate(caller, action, resource);
        let policies = self.statements.iter().filter(|statement| policies.contains(&statement.id)).collect();
        Explanation { allowed, policies, errors, attributes: entities::attributes(caller) }
    }

    /// Evaluates the policies with Cedar. Returns the decision and the errors of policies that could not be evaluated.
    ///
    /// Cedar skips a policy that cannot be evaluated. That is safe for a `permit`. A skipped `forbid` may be meant
    /// for this call, so its error denies the call. Validation leaves few causes of errors: an overflow, or an
    /// expression too deep for the stack.
    pub(super) fn evaluate(
        &self,
        caller: &Caller,
        action: Action,
        resource: Lineage<'_>,
    ) -> (Verdict, Vec<EvaluationError>) {
        let entities = entities::entities(caller, resource);
        let resource = entities::resource_uids(resource).swap_remove(0);
        let (principal, action) = (entities::caller_uid(caller), entities::action_uid(action));
        let request = Request::new(principal, action, resource, Context::empty(), None)
            .expect("a request can be invalid by a schema only, and none is given");
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        let mut errors = Vec::new();
        for error in response.diagnostics().errors() {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let (policy, cause) = (error.policy_id().to_string(), error.inner().to_string());
            errors.push(EvaluationError { policy, cause });
        }
        let failed = errors.iter().map(|error| error.policy.as_str());
        let failed_forbids: BTreeSet<&str> = failed.filter(|id| self.forbids(id)).collect();
        let allowed = response.decision() == Decision::Allow && failed_forbids.is_empty();
        let reasons: BTreeSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        // If a failed `forbid` denies the call, the permits among Cedar's reasons are none for the denial.
        let decided =
            |id: &str| self.forbids(id) != allowed && (reasons.contains(id) || failed_forbids.contains(id));
        let ids = self.statements.iter().map(|statement| &statement.id);
        let policies = ids.filter(|id| decided(id)).cloned().collect();
        (Verdict { allowed, policies }, errors)
    }

    fn forbids(&self, id: &str) -> bool {
        self.set.policy(&PolicyId::new(id)).is_some_and(|policy| policy.effect() == Effect::Forbid)
    }
}

impl Statement {
    /// The line that begins with the effect, after the annotations and comments.
    #[must_use]
    pub fn first_line(&self) -> &str {
        let effect = self.effect.to_string();
        let mut lines = self.text.lines().map(str::trim);
        let first = lines.find(|line| line.starts_with(&effect));
        first.or(self.text.lines().next()).unwrap_or_default()
    }
}
