//! `countermand check --explain`: what the policy says of one call, and which policies are behind it.

use std::{collections::BTreeMap, path::Path};

use clap::Args;
use serde_json::{Value as Json, json};

use crate::{
    caller::{Caller, Claims, Identity, Proof},
    cli::{
        exit::Exit,
        output::{self, Format},
        serve::report,
    },
    config::{Config, Environment, Overrides},
    name::{DeviceName, OperationName},
    policy::{
        Action, Resource,
        entities::Value,
        explain::Explanation,
        rules::{Rules, Statement},
    },
};

/// What is to be explained.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Say whether CALLER (as in the audit log: spiffe://…, dns:…, jwt:ISSUER#SUBJECT, unix:UID, anonymous)
    /// may do ACTION (cancel, get, list, wait) to NAME (an operation, for list a device), and by which
    /// policies; nothing else is checked, and no token fetched
    #[arg(long, num_args = 3, value_names = ["CALLER", "ACTION", "NAME"])]
    explain: Option<Vec<String>>,

    /// A claim of the token of a jwt: caller; may be repeated, also for one more value of the same claim
    #[arg(long, value_name = "NAME=VALUE", requires = "explain")]
    claim: Vec<String>,

    /// The form of the explanation
    #[arg(long, value_enum, default_value_t, requires = "explain")]
    output: Format,
}

/// One call that might be.
pub(super) struct Question {
    caller: Caller,
    action: Action,
    resource: Asked,
    output: Format,
}

enum Asked {
    Operation(OperationName),
    Device(DeviceName),
}

impl ExplainArgs {
    /// What is asked, when something is; or what is wrong with it.
    pub(super) fn question(&self) -> Option<Result<Question, String>> {
        let Self { explain, claim, output } = self;
        let [caller, action, name] = &explain.as_ref()?[..] else { return None };
        Some(ask(caller, action, name, claim, *output))
    }
}

fn ask(
    caller: &str,
    action: &str,
    name: &str,
    claims: &[String],
    output: Format,
) -> Result<Question, String> {
    let action = [Action::Cancel, Action::Get, Action::List, Action::Wait]
        .into_iter()
        .find(|known| known.as_str() == action)
        .ok_or_else(|| format!("{action:?} is no action; give cancel, get, list or wait"))?;
    let wrong = |error: &dyn std::fmt::Display| format!("{name:?}: the name {error}");
    let resource = match action {
        Action::List => Asked::Device(DeviceName::parse(name).map_err(|error| wrong(&error))?),
        Action::Cancel | Action::Get | Action::Wait => {
            Asked::Operation(OperationName::parse(name).map_err(|error| wrong(&error))?)
        }
    };
    let identity: Identity = caller.parse().map_err(|error| format!("{caller:?} is {error}"))?;
    Ok(Question { caller: proven(identity, claims)?, action, resource, output })
}

/// The caller, with the proof that is usual for its kind of identity.
fn proven(identity: Identity, claims: &[String]) -> Result<Caller, String> {
    let mut of_token = Claims::new();
    for claim in claims {
        let (name, value) =
            claim.split_once('=').ok_or_else(|| format!("{claim:?} is no claim; give NAME=VALUE"))?;
        of_token.entry(name.to_owned()).or_default().insert(value.to_owned());
    }
    let proof = match identity {
        Identity::Jwt { issuer, subject } => return Ok(Caller::of_token(issuer, subject, of_token)),
        _ if !claims.is_empty() => return Err("--claim is for a jwt: caller only".to_owned()),
        Identity::Spiffe(_) | Identity::Dns(_) => Proof::ClientCertificate,
        Identity::Unix { .. } => Proof::UnixPeer,
        Identity::Anonymous => Proof::None,
    };
    Ok(Caller::new(identity, proof))
}

/// Prints the decision and what is behind it.
pub(super) fn run(question: Result<Question, String>, overrides: Overrides) -> Exit {
    let question = match question {
        Ok(question) => question,
        Err(fault) => {
            output::complain(&fault);
            return Exit::Failed;
        }
    };
    let file = match Config::policy_alone(overrides, Environment::of_process()) {
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
    let lineage = match &question.resource {
        Asked::Operation(name) => name.lineage(),
        Asked::Device(name) => name.lineage(),
    };
    let explanation = rules.explain(&question.caller, question.action, lineage);
    let printed = match question.output {
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

/// What `check` has to say of a policy that is right: how much there is, and what looks odd.
pub(super) fn findings(file: &Path) -> Result<Vec<String>, String> {
    let rules = Rules::read(file).map_err(|mistakes| format!("{}: {}", file.display(), mistakes.0[0]))?;
    let name = file.display();
    let mut lines = vec![match rules.statements().len() {
        1 => format!("policy {name}: 1 policy"),
        count => format!("policy {name}: {count} policies"),
    }];
    lines.extend(rules.warnings().iter().map(|warning| format!("policy {name}: warning: {warning}")));
    if !rules.permit_something() {
        lines.push(format!("policy {name}: warning: it permits nothing, so that every call is denied"));
    }
    Ok(lines)
}
