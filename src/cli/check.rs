//! `countermand check`: whether `serve` would start, and be ready.

use std::{panic::resume_unwind, path::PathBuf};

use clap::Args;
use tokio::task::spawn_blocking;

use super::{exit::Exit, output::Format, serve::report};
use crate::{
    app::Config,
    config::{ConfigErrors, Flags, Variables},
    credentials::Machine,
};

mod credential;
mod explain;
mod finding;
mod local;
mod network;
mod online;
mod proxy;
mod quota;
mod token_hint;

use finding::Finding;

const EXAMPLES: &str = "\
Examples:
  countermand check --config /etc/countermand.toml
  countermand check --online --config /etc/countermand.toml
  countermand check --output json | jq '.findings[] | select(.level != \"ok\")'
  countermand check --policy policy.cedar \\
      --explain spiffe://corp.example/ns/mdm/sa/console cancel enterprises/LC01/devices/d1/operations/17
  countermand check --policy policy.cedar --claim groups=mdm \\
      --explain jwt:https://issuer.example#alice list enterprises/LC01/devices/d1

The COUNTERMAND_… variables are read as serve reads them. Each line is a finding: those that are OK on
standard output, warnings and errors with hints on standard error. --output json prints one object to standard
output: {\"findings\": [{\"subject\", \"level\": \"ok\"|\"warning\"|\"error\", \"finding\", \"hint\"}], \"errors\": N}.
Exit code: 0 without an error, 1 on any; with --explain 0 when the call is allowed, 1 when it is denied and on
any error.";

/// Check the configuration and its files, fetch a token with each credential, and check that the API and
/// the keys of callers' tokens can be reached
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The configuration file, TOML [env: COUNTERMAND_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The Cedar policy, in place of the configuration's [env: COUNTERMAND_POLICY]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Also send one query with the token of each credential: a get of an operation that does not exist. It shows
    /// whether the API is enabled, and accepts the token; it changes nothing, and counts against the quota
    #[arg(long, conflicts_with = "explain")]
    online: bool,

    #[command(flatten)]
    explain: explain::ExplainArgs,

    /// How to print the findings, or the explanation
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints one line per finding.
pub(crate) async fn run(args: CheckArgs) -> Exit {
    let CheckArgs { config, policy, online, explain, output } = args;
    let given = [("--config", config), ("--policy", policy)];
    let given = given.into_iter().filter_map(|(flag, path)| Some((flag, path?)));
    let flags = given.fold(Flags::default(), |flags, (flag, path)| flags.with(flag, path));
    if let Some(call) = explain.call() {
        return run_blocking(move || explain::run(call, flags, output)).await;
    }
    let loaded = run_blocking(move || {
        let config = Config::load(flags, Variables::of_process(), Machine::This)?;
        let findings = local::findings(&config);
        Ok((config, findings))
    });
    match loaded.await {
        Ok((config, mut findings)) => {
            findings.extend(network::findings(config, online).await);
            finding::print(&findings, output)
        }
        Err(errors) => print_errors(&errors, output),
    }
}

/// Runs `work` on a blocking thread, so that a signal ends the command while a file or a resolver blocks `work`.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic.into_panic()),
    }
}

/// Prints the errors of a configuration as `serve` prints them, or as findings.
fn print_errors(errors: &ConfigErrors, format: Format) -> Exit {
    match format {
        Format::Text => {
            report(errors);
            Exit::Failed
        }
        Format::Json => finding::print(&errors.iter().map(Finding::from).collect::<Vec<_>>(), format),
    }
}
