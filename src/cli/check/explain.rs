//! `countermand check --explain`: the policy's decision about one call, and its reasons.

use clap::Args;
use serde_json::{Value as Json, json};

use crate::{
    app::Config,
    caller::{Caller, Claims, Evidence, Identity},
    cli::{
        exit::Exit,
        output::{self, Format},
        serve::report,
    },
    config::{Flags, Variables},
    name::{DeviceName, EnterpriseName, ListParent, OperationName},
    policy::{Action, Explanation, Lineage, PolicyFile, Resource, Statement, settings::PolicyMode},
};

/// The call to explain.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Explain whether CALLER (as in the audit log: spiffe://…, dns:…, jwt:ISSUER#SUBJECT, unix:UID, anonymous)
    /// may do ACTION (cancel, get, list, wait) to NAME (an operation, for list a device or
    /// enterprises/…/devices/-), and by which policies; nothing else is checked, and no token is fetched
    #[arg(long, num_args = 3, value_names = ["CALLER", "ACTION", "NAME"])]
    explain: Option<Vec<String>>,

    /// A claim in the token of a jwt: caller; may be repeated, also for another value of the same claim
    #[arg(long, value_name = "NAME=VALUE", requires = "explain")]
    claim: Vec<String>,

    /// The principal.proof of a spiffe: or dns: caller: x-forwarded-client-cert, l5d-client-id, or
    /// client-certificate, which is the default
    #[arg(long, requires = "explain")]
    proof: Option<String>,
}

/// A call that the policy can decide about.
pub(super) struct ExplainedCall {
    caller: Caller,
    action: Action,
    resource: ExplainedResource,
}

impl ExplainedCall {
    /// Whether the policy also decides about each device: an allowed list over all devices.
    fn decides_each_device(&self, explanation: &Explanation<'_>) -> bool {
        explanation.allowed && matches!(self.resource, ExplainedResource::Enterprise(_))
    }
}

enum ExplainedResource {
    Operation(OperationName),
    Device(DeviceName),
    Enterprise(EnterpriseName),
}

impl ExplainedResource {
    fn lineage(&self) -> Lineage<'_> {
        match self {
            Self::Operation(name) => name.lineage(),
            Self::Device(name) => name.lineage(),
            Self::Enterprise(name) => name.lineage(),
        }
    }
}

impl ExplainArgs {
    /// The call of `--explain`, or its error. `None` without `--explain`.
    pub(super) fn call(&self) -> Option<Result<ExplainedCall, String>> {
        let [caller, action, name] = &self.explain.as_ref()?[..] else { return None };
        Some(self.parse(caller, action, name))
    }

    fn parse(&self, caller: &str, action: &str, name: &str) -> Result<ExplainedCall, String> {
        let action = Action::ALL
            .into_iter()
            .find(|known| known.as_str() == action)
            .ok_or_else(|| format!("{action:?} is not an action; give cancel, get, list or wait"))?;
        let invalid = |error| format!("{name:?}: {error}");
        let resource = match action {
            Action::List => match ListParent::parse(name).map_err(invalid)? {
                ListParent::Device(name) => ExplainedResource::Device(name),
                ListParent::AllDevices(name) => ExplainedResource::Enterprise(name),
            },
            Action::Cancel | Action::Get | Action::Wait => {
                ExplainedResource::Operation(OperationName::parse(name).map_err(invalid)?)
            }
        };
        let identity: Identity = caller.parse().map_err(|error| format!("{caller:?} is {error}"))?;
        Ok(ExplainedCall { caller: self.caller(identity)?, action, resource })
    }

    fn caller(&self, identity: Identity) -> Result<Caller, String> {
        let Self { explain: _, claim, proof } = self;
        if !claim.is_empty() && !matches!(identity, Identity::Jwt { .. }) {
            return Err("--claim is for a jwt: caller only".to_owned());
        }
        if proof.is_some() && !matches!(identity, Identity::Spiffe(_) | Identity::Dns(_)) {
            return Err("--proof is for a spiffe: or dns: caller only".to_owned());
        }
        let evidence = match identity {
            Identity::Jwt { issuer, subject } => {
                return Ok(Caller::of_token(issuer, subject, claims(claim)?));
            }
            Identity::Spiffe(_) | Identity::Dns(_) => workload_evidence(proof.as_deref())?,
            Identity::Unix { .. } => Evidence::UnixPeer,
            Identity::Anonymous => Evidence::None,
        };
        Ok(Caller::new(identity, evidence))
    }
}

fn claims(texts: &[String]) -> Result<Claims, String> {
    let mut claims = Claims::new();
    for text in texts {
        let (name, value) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not a claim; give NAME=VALUE"))?;
        claims.entry(name.to_owned()).or_default().insert(value.to_owned());
    }
    Ok(claims)
}

/// Parses the value of `--proof`. The default is a client certificate.
fn workload_evidence(name: Option<&str>) -> Result<Evidence, String> {
    let Some(name) = name else { return Ok(Evidence::ClientCertificate) };
    [Evidence::ClientCertificate, Evidence::ForwardedClientCert, Evidence::LinkerdClientId]
        .into_iter()
        .find(|known| known.as_str() == name)
        .ok_or_else(|| {
            format!(
                "{name:?} is not a value of --proof; give client-certificate, x-forwarded-client-cert or \
                 l5d-client-id"
            )
        })
}

/// Prints the decision and its reasons. Blocks while it reads files.
pub(super) fn run(call: Result<ExplainedCall, String>, flags: Flags, output: Format) -> Exit {
    let call = match call {
        Ok(call) => call,
        Err(error) => {
            output::complain(&error);
            return Exit::Failed;
        }
    };
    let file = match Config::policy_alone(flags, Variables::of_process()) {
        Ok(Some(file)) => file,
        Ok(None) => {
            output::complain("there is no policy; callers on loopback and unix sockets may do everything");
            return Exit::Failed;
        }
        Err(errors) => {
            report(&errors);
            return Exit::Failed;
        }
    };
    let explanation = file.rules.explain(&call.caller, call.action, call.resource.lineage());
    let printed = match output {
        Format::Text => output::all_to_stdout(&text(&call, &explanation, &file)),
        Format::Json => output::to_stdout(&object(&call, &explanation, file.mode).to_string()),
    };
    if explanation.allowed { printed } else { Exit::Failed }
}

fn text(call: &ExplainedCall, explanation: &Explanation<'_>, file: &PolicyFile) -> Vec<String> {
    let caller = &call.caller;
    let Explanation { allowed, policies, errors, attributes } = explanation;
    let mut lines = vec![if *allowed { "allowed" } else { "denied" }.to_owned()];
    for policy in policies {
        let Statement { id, effect, line, text: _ } = policy;
        lines.push(format!(
            "by {id} ({effect}, {}, line {line}): {}",
            file.path.display(),
            policy.first_line()
        ));
    }
    if policies.is_empty() {
        lines.push("no policy permits it".to_owned());
    }
    if call.decides_each_device(explanation) {
        lines.push("each device is decided again, and left out of the list if it is denied".to_owned());
    }
    if file.mode == PolicyMode::Shadow {
        lines.push(
            "the policy is in shadow mode: serve allows every call, and records this decision".to_owned(),
        );
    }
    for error in errors {
        lines.push(format!("{} cannot be evaluated: {}", error.policy, error.cause));
    }
    lines.push(format!("caller {caller}"));
    for (name, value) in attributes {
        lines.push(format!("  {name} = {}", json!(value)));
    }
    for (name, values) in caller.claims() {
        lines.push(format!("  tag {} = {}", json!(name), json!(values)));
    }
    lines
}

fn object(call: &ExplainedCall, explanation: &Explanation<'_>, mode: PolicyMode) -> Json {
    let caller = &call.caller;
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
    let mut object = json!({
        "decision": if *allowed { "allow" } else { "deny" },
        "mode": match mode {
            PolicyMode::Enforce => "enforce",
            PolicyMode::Shadow => "shadow",
        },
        "caller": caller.to_string(),
        "attributes": attributes,
        "tags": caller.claims(),
        "policies": policies,
        "errors": errors,
    });
    if call.decides_each_device(explanation) {
        object["decides_each_device"] = true.into();
    }
    object
}
