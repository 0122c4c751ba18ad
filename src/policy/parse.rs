//! Parses the content of a policy file to [`Rules`], or to the list of its errors.

use std::{fmt, str, thread};

use cedar_policy::{
    ParseErrors, PolicyId, PolicySet, ValidationMode, ValidationWarning, Validator, ffi::DetailedError,
};

use super::{
    entities::SCHEMA,
    resource_index::InvalidId,
    rules::{Rules, Statement},
    scanner::ScannedText,
};

/// The maximum size of a policy file, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// The stack for Cedar's parser, which is recursive. The deepest statement that [`ScannedText`] lets through takes a
/// fraction of it.
const STACK_SIZE: usize = 16 << 20;

/// The maximum length of an id, in characters. Every line of the audit log holds ids.
const MAX_ID: usize = 128;

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

impl PolicyError {
    fn new(position: Option<(usize, usize)>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { position, problem: on_one_line(&problem.into()), hint: on_one_line(&hint.into()) }
    }

    fn at(
        scanned: &ScannedText<'_>,
        offset: usize,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(Some(scanned.line_and_column(offset)), problem, hint)
    }

    /// The only error of a file, without a position.
    pub(super) fn of_file(problem: impl Into<String>, hint: &str) -> Vec<Self> {
        vec![Self::new(None, problem, hint)]
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

/// Escapes control characters, because the problem and the hint may quote the file.
fn on_one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `line 3, column 7: problem; hint`.
impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.located(), self.hint)
    }
}

impl Rules {
    /// Parses and validates the content of a file.
    ///
    /// # Errors
    ///
    /// The file is over 1 MiB, not UTF-8 or not Cedar. Otherwise every error in it: names that are not in the schema,
    /// templates, duplicate ids, policies that can never apply, and ids that no entity can have.
    pub fn parse(content: &[u8]) -> Result<Self, Vec<PolicyError>> {
        if content.len() > MAX_SIZE {
            let problem = format!("it has {} bytes", content.len());
            return Err(PolicyError::of_file(problem, "keep it below 1 MiB"));
        }
        let text = str::from_utf8(content).map_err(|error| {
            let problem = format!("it is not UTF-8 from byte {} on", error.valid_up_to());
            PolicyError::of_file(problem, "write it in UTF-8")
        })?;
        // Editors may write a byte-order mark, which is not a column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let scanned = ScannedText::scan(text);
        if let Some(offset) = scanned.too_deep() {
            let problem = "this statement is nested too deeply, or has too many operators";
            return Err(vec![PolicyError::at(&scanned, offset, problem, "split it into several statements")]);
        }
        thread::scope(|scope| {
            let parser = thread::Builder::new().stack_size(STACK_SIZE);
            let parser = parser.spawn_scoped(scope, || validated(&scanned, text)).map_err(|error| {
                PolicyError::of_file(format!("cannot start the parser's thread: {error}"), "try again")
            })?;
            parser.join().unwrap_or_else(|_| Err(PolicyError::of_file("the parser panicked", "report this")))
        })
    }
}

fn validated(scanned: &ScannedText<'_>, text: &str) -> Result<Rules, Vec<PolicyError>> {
    let mut errors = Vec::new();
    let mut rules = parsed(scanned, text, &mut errors)?;
    rules.warnings = validate(scanned, &rules.set, &mut errors);
    errors.sort_by_key(|error| error.position);
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// Parses `text`. Templates and statements with an invalid id are omitted.
fn parsed(
    scanned: &ScannedText<'_>,
    text: &str,
    errors: &mut Vec<PolicyError>,
) -> Result<Rules, Vec<PolicyError>> {
    let parsed: PolicySet = text.parse().map_err(|errors: ParseErrors| {
        errors.iter().map(|error| cedar_error(scanned, &error.into(), None)).collect::<Vec<_>>()
    })?;
    for template in parsed.templates() {
        let (offset, _) = scanned.statement(number(template.id()));
        let hint = "name a principal or resource in place of the slot";
        errors.push(PolicyError::at(scanned, offset, "templates are not supported", hint));
    }
    let mut policies: Vec<_> = parsed.policies().map(|policy| (number(policy.id()), policy)).collect();
    policies.sort_by_key(|(number, _)| *number);

    let mut rules = Rules::default();
    for (number, policy) in policies {
        let (offset, text) = scanned.statement(number);
        let mut add_error =
            |problem: String, hint: &str| errors.push(PolicyError::at(scanned, offset, problem, hint));
        let id = match policy.annotation("id") {
            None => policy.id().to_string(),
            Some(id) if is_valid_id(id) => id.to_owned(),
            Some(id) => {
                let hint = format!("give 1 to {MAX_ID} characters, none of them a control character");
                add_error(format!("{id:?} is not a valid id"), &hint);
                continue;
            }
        };
        if rules.set.add(policy.new_id(PolicyId::new(&id))).is_err() {
            let hint = "give each policy an @id of its own";
            add_error(format!("policy {id}: an earlier policy has this id"), hint);
            continue;
        }
        for InvalidId { problem, hint } in rules.named.add(policy) {
            add_error(format!("policy {id}: {problem}"), hint);
        }
        let (line, _) = scanned.line_and_column(offset);
        rules.statements.push(Statement { id, effect: policy.effect(), line, text: text.to_owned() });
    }
    Ok(rules)
}

/// The number of a statement in its file, from 0. Cedar's id of a statement has this number: `policy0`.
fn number(id: &PolicyId) -> usize {
    let name: &str = id.as_ref();
    name.strip_prefix("policy")
        .and_then(|number| number.parse().ok())
        .expect("Cedar names the statements of a text policy0, policy1 and so on")
}

fn is_valid_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.chars().count()) && !id.chars().any(char::is_control)
}

/// Adds Cedar's errors to `errors` and returns its warnings.
///
/// Level 1 rejects attributes of entities that a policy names as literals. Such an entity has no attributes here, so
/// the policy would fail in every evaluation.
fn validate(scanned: &ScannedText<'_>, set: &PolicySet, errors: &mut Vec<PolicyError>) -> Vec<PolicyError> {
    let result = Validator::new(SCHEMA.clone()).validate_with_level(set, ValidationMode::Strict, 1);
    let mut reported = Vec::new();
    for error in result.validation_errors() {
        reported.push(error.policy_id());
        errors.push(cedar_error(scanned, &error.into(), Some(error.policy_id())));
    }
    let mut warnings = Vec::new();
    for warning in result.validation_warnings() {
        let id = warning.policy_id();
        let mut error = cedar_error(scanned, &warning.into(), Some(id));
        match warning {
            // The name of a group may mix scripts, so this is not an error.
            ValidationWarning::MixedScriptString(_) => {
                error.hint = "check that each of its letters is the intended one".to_owned();
                warnings.push(error);
            }
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
                // Reported once per policy, and only if no error gives the reason.
                if reported.contains(&id) {
                    continue;
                }
                reported.push(id);
                error.problem = format!("policy {id}: it can never apply to any call");
                error.hint =
                    "check that cancel, get and wait are of an Operation, list is of a Device, and that its \
                              conditions can hold together"
                        .to_owned();
                errors.push(error);
            }
            _ => errors.push(error),
        }
    }
    warnings
}

/// Converts an error of Cedar.
fn cedar_error(scanned: &ScannedText<'_>, error: &DetailedError, policy: Option<&PolicyId>) -> PolicyError {
    let DetailedError { message, help, source_locations, .. } = error;
    let location = source_locations.first();
    let without_policy = |text: &str| match policy {
        Some(id) => text.replacen(&format!("for policy `{id}`, "), "", 1),
        None => text.to_owned(),
    };
    let mut problem = policy.map_or_else(String::new, |id| format!("policy {id}: "));
    problem.push_str(&without_policy(message));
    if let Some(label) = location.and_then(|location| location.label.as_deref()) {
        problem = format!("{problem}, {label}");
    }
    let hint = help.as_deref().map_or_else(|| "see Cedar's syntax and the schema".to_owned(), without_policy);
    let position = location.map(|location| scanned.line_and_column(location.loc.start));
    PolicyError::new(position, problem, hint)
}

/// Parses rules without validation.
#[cfg(test)]
pub(super) fn unvalidated(text: &str) -> Rules {
    parsed(&ScannedText::scan(text), text, &mut Vec::new()).unwrap()
}

#[cfg(test)]
mod tests;
