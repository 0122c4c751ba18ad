//! `countermand check`: whether `serve` would start, and be ready.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use futures_util::{StreamExt, future::OptionFuture, stream};

use super::{exit::Exit, output::Format, serve::report};
use crate::{
    background::Background,
    config::{self, Config, Environment, Faults, Overrides},
    credentials::Surroundings,
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
    let overrides = Overrides { config, policy, ..Overrides::default() };
    if let Some(question) = explain.question() {
        return explain::run(question, overrides, output);
    }
    match Config::load(overrides, Environment::of_process()) {
        Ok(config) => finding::print(&findings(&config).await, output),
        Err(faults) => refused(&faults, output),
    }
}

/// A configuration that `serve` would refuse, in the form in which it would.
fn refused(faults: &Faults, format: Format) -> Exit {
    match format {
        Format::Text => {
            report(faults);
            Exit::Failed
        }
        Format::Json => finding::print(&faults.iter().map(Finding::from).collect::<Vec<_>>(), format),
    }
}

/// What there is to say of a configuration that is right by itself.
async fn findings(config: &Config) -> Vec<Finding> {
    let Config {
        upstream,
        credentials,
        policy,
        server,
        callers,
        audit,
        admin: _,
        polling: _,
        log_format: _,
        unknown_variables,
    } = config;
    let mut findings = vec![Finding::ok("configuration", "all settings are right")];
    findings.extend(
        unknown_variables.iter().map(|name| Finding::warning(name, "there is no such variable", "unset it")),
    );
    findings.extend(listeners::findings(config));
    findings.extend(server.tls.iter().flat_map(tls::findings));
    let (keys, reached, of_credentials) = tokio::join!(
        OptionFuture::from(callers.jwt.as_ref().map(callers::finding)),
        upstream::finding(upstream),
        of_credentials(credentials, upstream)
    );
    findings.extend(keys);
    findings.extend(policy.iter().flat_map(|file| policy::findings(file)));
    findings.extend(audit::finding(audit));
    findings.push(reached);
    findings.extend(of_credentials);
    findings
}

async fn of_credentials(list: &[config::Credential], upstream: &config::Upstream) -> Vec<Finding> {
    let iam = upstream.iam_credentials_url.url().clone();
    let surroundings = match Authorities::of(upstream.ca_certificates.as_deref(), &Background::unsupervised())
    {
        Ok(authorities) => Arc::new(Surroundings::new(authorities, iam)),
        Err(error) => return vec![upstream::of_certificates(&error)],
    };
    let each = list.iter().map(|credential| credential::findings(credential, upstream, &surroundings));
    let found: Vec<Vec<Finding>> = stream::iter(each).buffered(AT_ONCE).collect().await;
    found.concat()
}
