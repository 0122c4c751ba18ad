//! The call that `--explain` asks about: from words of the command line to a caller, an action and a resource.

use clap::Args;

use crate::{
    caller::{Caller, Claims, Identity, Proof},
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

    /// How a spiffe: or dns: caller is known, as in principal.proof: x-forwarded-client-cert, l5d-client-id, or
    /// client-certificate, which it is by default
    #[arg(long, requires = "explain")]
    proof: Option<String>,
}

/// One call that might be.
pub(in crate::cli::check) struct Question {
    pub(super) caller: Caller,
    pub(super) action: Action,
    pub(super) resource: Asked,
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
        let Self { explain, claim, proof } = self;
        let [caller, action, name] = &explain.as_ref()?[..] else { return None };
        Some(ask(caller, action, name, claim, proof.as_deref()))
    }
}

fn ask(
    caller: &str,
    action: &str,
    name: &str,
    claims: &[String],
    proof: Option<&str>,
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
    Ok(Question { caller: proven(identity, claims, proof)?, action, resource })
}

/// The caller, with the proof that is given, or else usual for its kind of identity.
fn proven(identity: Identity, claims: &[String], proof: Option<&str>) -> Result<Caller, String> {
    let mut of_token = Claims::new();
    for claim in claims {
        let (name, value) =
            claim.split_once('=').ok_or_else(|| format!("{claim:?} is no claim; give NAME=VALUE"))?;
        of_token.entry(name.to_owned()).or_default().insert(value.to_owned());
    }
    if !claims.is_empty() && !matches!(identity, Identity::Jwt { .. }) {
        return Err("--claim is for a jwt: caller only".to_owned());
    }
    if proof.is_some() && !matches!(identity, Identity::Spiffe(_) | Identity::Dns(_)) {
        return Err("--proof is for a spiffe: or dns: caller only".to_owned());
    }
    let proof = match identity {
        Identity::Jwt { issuer, subject } => return Ok(Caller::of_token(issuer, subject, of_token)),
        Identity::Spiffe(_) | Identity::Dns(_) => of_workload(proof)?,
        Identity::Unix { .. } => Proof::UnixPeer,
        Identity::Anonymous => Proof::None,
    };
    Ok(Caller::new(identity, proof))
}

/// The proof of this name, of those that a SPIFFE ID or a DNS name can have.
fn of_workload(name: Option<&str>) -> Result<Proof, String> {
    let Some(name) = name else { return Ok(Proof::ClientCertificate) };
    [Proof::ClientCertificate, Proof::ForwardedClientCert, Proof::LinkerdClientId]
        .into_iter()
        .find(|known| known.as_str() == name)
        .ok_or_else(|| {
            format!("{name:?} is no proof; give client-certificate, x-forwarded-client-cert or l5d-client-id")
        })
}
