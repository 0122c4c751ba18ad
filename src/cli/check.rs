//! `countermand check`: whether `serve` would start, and be ready.

use std::{fmt::Display, path::PathBuf, sync::Arc};

use clap::Args;
use reqwest::Url;

use super::{exit::Exit, output, serve::report};
use crate::{
    config::{Config, Environment, Overrides},
    credentials::{FetchError, IAM_CREDENTIALS, Source, Surroundings, fetch_once},
};

mod explain;

const EXAMPLES: &str = "\
Examples:
  countermand check --config /etc/countermand.toml
  countermand check --policy policy.cedar \\
      --explain spiffe://corp.example/ns/mdm/sa/console cancel enterprises/LC01/devices/d1/operations/17
  countermand check --policy policy.cedar --claim groups=mdm \\
      --explain jwt:https://issuer.example#alice list enterprises/LC01/devices/d1

The COUNTERMAND_… variables are read as serve reads them. Exit code: 0 when all is right, 1 on any fault;
with --explain 0 when the call is allowed, 1 when it is denied and on any fault.";

/// Check the configuration and everything that it names, and fetch a token
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
}

impl From<CheckArgs> for Overrides {
    fn from(args: CheckArgs) -> Self {
        let CheckArgs { config, policy, explain: _ } = args;
        Self { config, policy, ..Self::default() }
    }
}

/// Prints a line a finding: what is right to standard output, each fault to standard error.
pub(crate) async fn run(args: CheckArgs) -> Exit {
    if let Some(question) = args.explain.question() {
        return explain::run(question, args.into());
    }
    let config = match Config::load(args.into(), Environment::of_process()) {
        Ok(config) => config,
        Err(faults) => {
            report(&faults);
            return Exit::Failed;
        }
    };
    let mut right = vec!["the configuration is right".to_owned()];
    if let Some(file) = &config.policy {
        match explain::findings(file) {
            Ok(findings) => right.extend(findings),
            Err(fault) => {
                output::complain(&fault);
                return Exit::Failed;
            }
        }
    }
    let printed = output::all_to_stdout(&right);
    match token(&config).await {
        Ok(right) if printed == Exit::Ok => output::to_stdout(&right),
        Ok(_) => printed,
        Err(fault) => {
            output::complain(&fault);
            Exit::Failed
        }
    }
}

/// Fetches one token: what is to be said of it, or what is wrong and what would be right.
async fn token(config: &Config) -> Result<String, String> {
    let Config {
        upstream,
        credential,
        server: _,
        admin: _,
        policy: _,
        log_format: _,
        polling: _,
        audit: _,
        callers: _,
    } = config;
    let name = format!("credential {}", credential.name);
    let fault = |error: &dyn Display| format!("{name}: {error}");
    let iam = Url::parse(IAM_CREDENTIALS).map_err(|error| fault(&error))?;
    let surroundings =
        Surroundings::new(upstream.ca_certificates.as_deref(), iam).map_err(|error| fault(&error))?;
    let source = Source::read(&credential.definition(), &Arc::new(surroundings));
    let source = source.map_err(|error| fault(&error))?;
    let name = match source.principal() {
        Some(principal) => format!("{name}: {principal}"),
        None => name,
    };
    match fetch_once(&source).await {
        Ok(token) => {
            let lifetime = humantime::format_duration(token.lifetime());
            Ok(format!("{name}: token obtained, valid for {lifetime}"))
        }
        Err(error) => {
            let cause = error.to_string();
            // What Google says may end with a full stop.
            Err(format!("{name}: {}; {}", cause.trim_end_matches('.'), cure(&error)))
        }
    }
}

fn cure(error: &FetchError) -> &'static str {
    match error {
        FetchError::Unanswered(_) => {
            "see that the token endpoint can be reached from here, by way of HTTPS_PROXY where that is set, \
             and that its certificate is trusted (upstream.ca_certificates)"
        }
        FetchError::Refused(_) => {
            "see that the key or login was not revoked, its account not disabled, and that the clock here is right"
        }
        FetchError::Unusable(_) => {
            "see that token_uri in the key file is that of the download, or try again later"
        }
        FetchError::NoSubjectToken(_) => {
            "see that credential_source in the credential file names what holds the subject token, and that \
             it can be read from here"
        }
        FetchError::NotAsked(_) => "this is a defect: report it",
    }
}
