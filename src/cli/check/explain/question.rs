//! The call that `--explain` asks about: from words of the command line to a caller, an action and a resource.

use clap::Args;

use crate::{
    caller::{Caller, Claims, Identity, Proof},
    cli::output::Format,
    name::{DeviceName, OperationName},
    policy::{Action, Lineage, Resource},
};

/// What is to be explained.
#[derive(Debug, Args)]
pub(in crate::cli::check) struct ExplainArgs {
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
pub(in crate::cli::check) struct Question {
    pub(super) caller: Caller,
    pub(super) action: Action,
    pub(super) resource: Asked,
    pub(super) output: Format,
}

pub(super) enum Asked {
    Operation(OperationName),
    Device(DeviceName),
}

impl Asked {
    pub(super) fn lineage(&self) -> Lineage<'_> {
        match self {
            Self::Operation(name) => name.lineage(),
            Self::Device(name) => name.lineage(),
        }
    }
}

impl ExplainArgs {
    /// What is asked, when something is; or what is wrong with it.
    pub(in crate::cli::check) fn question(&self) -> Option<Result<Question, String>> {
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
