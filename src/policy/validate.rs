//! What Cedar finds wrong with policies, in our form.

use cedar_policy::{
    PolicyId, PolicySet, ValidationError, ValidationMode, ValidationWarning, Validator, ffi::DetailedError,
};

use super::{mistake::Mistake, schema::SCHEMA, source::Source};

/// Adds to `mistakes` what Cedar finds wrong, and answers what it only warns of.
///
/// The level is that of a schema in which nothing but the caller has attributes: what a policy asks of an
/// entity that it names itself could never be answered, and would be an error in every evaluation.
pub(super) fn validate(source: &Source<'_>, set: &PolicySet, mistakes: &mut Vec<Mistake>) -> Vec<Mistake> {
    let found = Validator::new(SCHEMA.clone()).validate_with_level(set, ValidationMode::Strict, 1);
    let wrong: Vec<&ValidationError> = found.validation_errors().collect();
    mistakes.extend(wrong.iter().map(|error| said(source, &(*error).into(), Some(error.policy_id()))));
    let mut warnings = Vec::new();
    let mut vain = Vec::new();
    for warning in found.validation_warnings() {
        let id = warning.policy_id();
        let mut mistake = said(source, &warning.into(), Some(id));
        match warning {
            // A group may well have a name in two scripts.
            ValidationWarning::MixedScriptString(_) => {
                mistake.remedy = "see that each of its letters is the one that is meant".to_owned();
                warnings.push(mistake);
            }
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
                // Told once, and not when an error tells why.
                if wrong.iter().any(|error| error.policy_id() == id) || vain.contains(&id) {
                    continue;
                }
                vain.push(id);
                mistake.problem = format!("policy {id}: it can never apply to any call");
                mistake.remedy =
                    "see that cancel, get and wait are of an Operation, list is of a Device, and \
                                  that its conditions can hold together"
                        .to_owned();
                mistakes.push(mistake);
            }
            _ => mistakes.push(mistake),
        }
    }
    warnings
}

/// What Cedar says, in our form.
pub(super) fn said(source: &Source<'_>, error: &DetailedError, policy: Option<&PolicyId>) -> Mistake {
    let DetailedError { message, help, source_locations, .. } = error;
    let at = source_locations.first();
    let bare = |text: &str| match policy {
        Some(id) => text.replacen(&format!("for policy `{id}`, "), "", 1),
        None => text.to_owned(),
    };
    let mut problem = policy.map_or_else(String::new, |id| format!("policy {id}: "));
    problem.push_str(&bare(message));
    if let Some(label) = at.and_then(|at| at.label.as_deref()) {
        problem = format!("{problem}, {label}");
    }
    let remedy = help.as_deref().map_or_else(|| "see Cedar's syntax and the schema".to_owned(), bare);
    match at {
        Some(at) => Mistake::at(source, at.loc.start, problem, remedy),
        None => Mistake::of_file(problem, remedy),
    }
}
