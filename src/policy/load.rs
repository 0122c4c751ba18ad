//! From the text of a file to [`Rules`], or to everything that is wrong with it.

use std::thread;

use cedar_policy::{ParseErrors, Policy, PolicyId, PolicySet};

use super::{
    mistake::{Mistake, Mistakes},
    named::{Named, Nothing},
    rules::{Rules, Statement},
    source::Source,
    validate::{said, validate},
};

/// The stack for the parser, which is recursive: several times what it takes for the deepest statement that
/// [`Source`] lets through.
const STACK: usize = 16 << 20;

/// The longest id, in characters; ids stand in every line of the audit log.
const LONGEST_ID: usize = 128;

/// See [`Rules::parse`].
pub(super) fn load(text: &str) -> Result<Rules, Mistakes> {
    let source = Source::scan(text);
    if let Some(offset) = source.too_deep() {
        let problem = "this statement is nested too deeply, or has too many operators";
        return Err(Mistakes(vec![Mistake::at(&source, offset, problem, "make several statements of it")]));
    }
    let failed = |problem: &str| Mistakes(vec![Mistake::of_file(problem, "try again")]);
    thread::scope(|scope| {
        let parser = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || parse(&source, text));
        let parser = parser.map_err(|error| failed(&format!("there is no thread to read it: {error}")))?;
        parser.join().map_err(|_| failed("the policy library panicked over it"))?
    })
}

fn parse(source: &Source<'_>, text: &str) -> Result<Rules, Mistakes> {
    let mut mistakes = Vec::new();
    let Parts { set, named, statements } = parts(source, text, &mut mistakes)?;
    let warnings = validate(source, &set, &mut mistakes);
    mistakes.sort_by_key(|mistake| mistake.place);
    if mistakes.is_empty() {
        Ok(Rules::new(set, named, statements, warnings))
    } else {
        Err(Mistakes(mistakes))
    }
}

/// What a text comes to, its mistakes aside.
struct Parts {
    set: PolicySet,
    named: Named,
    statements: Vec<Statement>,
}

fn parts(source: &Source<'_>, text: &str, mistakes: &mut Vec<Mistake>) -> Result<Parts, Mistakes> {
    let parsed: PolicySet = text.parse().map_err(|errors: ParseErrors| {
        Mistakes(errors.iter().map(|error| said(source, &error.into(), None)).collect())
    })?;
    for template in parsed.templates() {
        let offset = source.statement(number_of(template.id())).start;
        let problem = "this is a template, which nothing here fills in";
        mistakes.push(Mistake::at(
            source,
            offset,
            problem,
            "name a principal or resource in place of the slot",
        ));
    }
    let mut policies: Vec<_> = parsed.policies().map(|policy| (number_of(policy.id()), policy)).collect();
    policies.sort_by_key(|(number, _)| *number);

    let mut parts = Parts { set: PolicySet::new(), named: Named::default(), statements: Vec::new() };
    for (number, policy) in policies {
        let range = source.statement(number);
        let offset = range.start;
        let mut wrong = |problem: String, remedy: &str| {
            mistakes.push(Mistake::at(source, offset, problem, remedy));
        };
        let id = match id_of(policy) {
            Ok(id) => id,
            Err((problem, remedy)) => {
                wrong(problem, &remedy);
                continue;
            }
        };
        if parts.set.add(policy.new_id(PolicyId::new(&id))).is_err() {
            wrong(format!("policy {id}: an earlier one has this id"), "give each policy an @id of its own");
            continue;
        }
        for Nothing { problem, remedy } in parts.named.add(policy) {
            wrong(format!("policy {id}: {problem}"), remedy);
        }
        let (line, _) = source.line_and_column(offset);
        let text = source.text(range).to_owned();
        parts.statements.push(Statement { id, effect: policy.effect(), line, text });
    }
    Ok(parts)
}

/// The place of a statement in its file, from 0, by which Cedar names it: `policy0`.
fn number_of(id: &PolicyId) -> usize {
    let name: &str = id.as_ref();
    name.strip_prefix("policy")
        .and_then(|number| number.parse().ok())
        .expect("Cedar names the statements of a text policy0, policy1 and so on")
}

/// The `@id` of a statement, else the name that Cedar gave it.
fn id_of(policy: &Policy) -> Result<String, (String, String)> {
    let Some(id) = policy.annotation("id") else { return Ok(policy.id().to_string()) };
    let fits = (1..=LONGEST_ID).contains(&id.chars().count()) && !id.chars().any(char::is_control);
    if fits {
        return Ok(id.to_owned());
    }
    let remedy = format!("give 1 to {LONGEST_ID} characters, none of them a control character");
    Err((format!("{id:?} is no id"), remedy))
}

/// What a test wants of policies that the validation would refuse.
#[cfg(test)]
pub(super) fn unvalidated(text: &str) -> Rules {
    let Parts { set, named, statements } = parts(&Source::scan(text), text, &mut Vec::new()).unwrap();
    Rules::new(set, named, statements, Vec::new())
}

#[cfg(test)]
mod tests;
