//! `countermand check`: whether `serve` would start, and be ready.

use std::{error::Error, path::PathBuf};

use clap::Args;

use super::{exit::Exit, output, serve::report};
use crate::{
    config::{Config, Environment, Overrides},
    credentials::{FetchError, KeyFile, ServiceAccount, fetch_once},
};

const EXAMPLES: &str = "\
Example:
  countermand check --config /etc/countermand.toml

The COUNTERMAND_… variables are read as serve reads them. Exit code: 0 when all is right, 1 on any fault.";

/// Check the configuration and everything that it names, and fetch a token
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The configuration file, TOML [env: COUNTERMAND_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<CheckArgs> for Overrides {
    fn from(args: CheckArgs) -> Self {
        let CheckArgs { config } = args;
        Self { config, ..Self::default() }
    }
}

/// Prints a line a finding: what is right to standard output, each fault to standard error.
pub(crate) async fn run(args: CheckArgs) -> Exit {
    let config = match Config::load(args.into(), Environment::of_process()) {
        Ok(config) => config,
        Err(faults) => {
            report(&faults);
            return Exit::Failed;
        }
    };
    let printed = output::to_stdout("the configuration is right");
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
    let Config { upstream, credential, server: _, admin: _, callers: _, log_format: _, polling: _ } = config;
    let name = format!("credential {}", credential.name);
    let fault = |error: &dyn Error| format!("{name}: {error}");
    let key = KeyFile::read(&credential.file).map_err(|error| fault(&error))?;
    let name = format!("{name}: {}", key.principal());
    let source =
        ServiceAccount::new(key, upstream.ca_certificates.as_deref()).map_err(|error| fault(&error))?;
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
            "see that the key was not deleted, its account not disabled, and that the clock here is right"
        }
        FetchError::Unusable(_) => {
            "see that token_uri in the key file is that of the download, or try again later"
        }
        FetchError::NotAsked(_) => "this is a defect: report it",
    }
}
