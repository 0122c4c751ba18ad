//! `countermand check`: whether `serve` would start, and be ready.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use futures_util::{StreamExt, future::OptionFuture, stream};

use super::{exit::Exit, output::Format, serve::report};
use crate::{
    amapi::settings::Upstream,
    app::{Config, config::Loaded},
    background::Background,
    config::{ConfigErrors, Flags, Variables},
    credentials::Surroundings,
    credentials::{Machine, settings::CredentialConfig},
    http_client::Authorities,
};

mod audit;
mod callers;
mod credential;
mod cure;
mod explain;
mod file;
mod finding;
mod listeners;
mod policy;
mod tls;
mod upstream;

use finding::Finding;

/// How many credentials are tried at once: a few hundred are done in seconds, and nobody is flooded.
const AT_ONCE: usize = 16;

const EXAMPLES: &str = "\
Examples:
  countermand check --config /etc/countermand.toml
  countermand check --output json | jq '.findings[] | select(.level != \"ok\")'
  countermand check --policy policy.cedar \\
      --explain spiffe://corp.example/ns/mdm/sa/console cancel enterprises/LC01/devices/d1/operations/17
  countermand check --policy policy.cedar --claim groups=mdm \\
      --explain jwt:https://issuer.example#alice list enterprises/LC01/devices/d1

The COUNTERMAND_… variables are read as serve reads them. Each line is a finding: what is right on standard
output, warnings and faults with their cures on standard error. With --output json all is one object on
standard output: {\"findings\": [{\"subject\", \"level\": \"ok\"|\"warning\"|\"fault\", \"finding\", \"cure\"}], \"faults\": N}.
Exit code: 0 when there is no fault, 1 on any; with --explain 0 when the call is allowed, 1 when it is denied
and on any fault.";

/// Check the configuration and everything that it names, fetch a token with each credential, and see
/// that the API and the keys of callers' tokens can be reached
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The configuration file, TOML [env: COUNTERMAND_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The Cedar policy, in place of the configuration's [env: COUNTERMAND_POLICY]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    #[command(flatten)]
    explain: explain::ExplainArgs,

    /// How to print the findings, or the explanation
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints a line a finding.
pub(crate) async fn run(args: CheckArgs) -> Exit {
    let CheckArgs { config, policy, explain, output } = args;
    let given = [("--config", config), ("--policy", policy)];
    let flags = given.into_iter().filter_map(|(flag, path)| Some((flag, path?)));
    let flags = flags.fold(Flags::default(), |flags, (flag, path)| flags.with(flag, path));
    if let Some(question) = explain.question() {
        return explain::run(question, flags, output);
    }
    match Config::load(flags, Variables::of_process(), Machine::This) {
        Ok(config) => finding::print(&findings(config).await, output),
        Err(faults) => refused(&faults, output),
    }
}

/// A configuration that `serve` would refuse, in the form in which it would.
fn refused(faults: &ConfigErrors, format: Format) -> Exit {
    match format {
        Format::Text => {
            report(faults);
            Exit::Failed
        }
        Format::Json => finding::print(&faults.iter().map(Finding::from).collect::<Vec<_>>(), format),
    }
}

/// What there is to say of a configuration that is right by itself.
async fn findings(config: Config) -> Vec<Finding> {
    let Config { settings, loaded, unknown_variables } = config;
    let Loaded { tls: _, authorities, keys } = loaded;
    let mut findings = vec![Finding::ok("configuration", "all settings are right")];
    findings.extend(
        unknown_variables.iter().map(|name| Finding::warning(name, "there is no such variable", "unset it")),
    );
    findings.extend(listeners::findings(&settings));
    findings.extend(settings.tls.iter().flat_map(tls::findings));
    let authorities = authorities.start(&Background::unsupervised());
    let (keys, reached, of_credentials) = tokio::join!(
        OptionFuture::from(settings.jwt.as_ref().zip(keys).map(|(jwt, keys)| callers::finding(jwt, keys))),
        upstream::finding(&settings.upstream, &authorities),
        of_credentials(&settings.credentials, &settings.upstream, &authorities)
    );
    findings.extend(keys);
    findings.extend(settings.policy.iter().flat_map(|file| policy::findings(file)));
    findings.extend(audit::finding(&settings.audit));
    findings.push(reached);
    findings.extend(of_credentials);
    findings
}

async fn of_credentials(
    list: &[CredentialConfig],
    upstream: &Upstream,
    authorities: &Authorities,
) -> Vec<Finding> {
    let iam = upstream.iam_credentials_url.url().clone();
    let surroundings = Arc::new(Surroundings::new(authorities.clone(), iam));
    let each = list.iter().map(|credential| credential::findings(credential, upstream, &surroundings));
    let found: Vec<Vec<Finding>> = stream::iter(each).buffered(AT_ONCE).collect().await;
    found.concat()
}
