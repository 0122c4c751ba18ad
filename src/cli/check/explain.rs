//! `countermand check --explain`: what the policy says of one call, and which policies are behind it.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value as Json, json};

use crate::{
    app::Config,
    caller::Caller,
    cli::{
        exit::Exit,
        output::{self, Format},
        serve::report,
    },
    config::{Flags, Variables},
    policy::{
        entities::Value,
        explain::Explanation,
        rules::{Rules, Statement},
    },
};

mod question;

pub(super) use question::ExplainArgs;

use question::Question;

/// Prints the decision and what is behind it.
pub(super) fn run(question: Result<Question, String>, flags: Flags, output: Format) -> Exit {
    let question = match question {
        Ok(question) => question,
        Err(fault) => {
            output::complain(&fault);
            return Exit::Failed;
        }
    };
    let file = match Config::policy_alone(flags, Variables::of_process()) {
        Ok(file) => file,
        Err(faults) => {
            report(&faults);
            return Exit::Failed;
        }
    };
    let Some(file) = file else {
        output::complain("there is no policy: callers on loopback and unix sockets may do all");
        return Exit::Failed;
    };
    let rules = match Rules::read(&file) {
        Ok(rules) => rules,
        Err(mistakes) => {
            output::complain(&format!("{}: {}", file.display(), mistakes.0[0]));
            return Exit::Failed;
        }
    };
    let explanation = rules.explain(&question.caller, question.action, question.resource.lineage());
    let printed = match output {
        Format::Text => output::all_to_stdout(&text(&question.caller, &explanation, &file)),
        Format::Json => output::to_stdout(&object(&question, &explanation).to_string()),
    };
    if explanation.allowed { printed } else { Exit::Failed }
}

fn text(caller: &Caller, explanation: &Explanation<'_>, file: &Path) -> Vec<String> {
    let Explanation { allowed, policies, errors, attributes } = explanation;
    let mut lines = vec![if *allowed { "allowed" } else { "denied" }.to_owned()];
    for policy in policies {
        let Statement { id, effect, line, text: _ } = policy;
        lines.push(format!("by {id} ({effect}, {}, line {line}): {}", file.display(), policy.first_line()));
    }
    if policies.is_empty() {
        lines.push("no policy permits it".to_owned());
    }
    for error in errors {
        lines.push(format!("{} cannot be evaluated: {}", error.policy, error.cause));
    }
    lines.push(format!("caller {caller}"));
    for (name, value) in attributes {
        lines.push(format!("  {name} = {}", of(value)));
    }
    for (name, values) in caller.claims() {
        lines.push(format!("  tag {} = {}", json!(name), json!(values)));
    }
    lines
}

fn object(question: &Question, explanation: &Explanation<'_>) -> Json {
    let Explanation { allowed, policies, errors, attributes } = explanation;
    let policies: Vec<_> = policies
        .iter()
        .map(|policy| {
            let Statement { id, effect, line, text: _ } = policy;
            json!({"id": id, "effect": effect.to_string(), "line": line, "text": policy.first_line()})
        })
        .collect();
    let errors: Vec<_> =
        errors.iter().map(|error| json!({"policy": error.policy, "cause": error.cause})).collect();
    let attributes: BTreeMap<_, _> = attributes.iter().map(|(name, value)| (name, of(value))).collect();
    json!({
        "decision": if *allowed { "allow" } else { "deny" },
        "caller": question.caller.to_string(),
        "attributes": attributes,
        "tags": question.caller.claims(),
        "policies": policies,
        "errors": errors,
    })
}

fn of(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
    }
}
