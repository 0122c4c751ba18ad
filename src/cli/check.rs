//! `countermand check`: whether `serve` would start.

use std::path::PathBuf;

use clap::Args;

use super::{exit::Exit, output, serve::report};
use crate::config::{Config, Environment, Overrides};

const EXAMPLES: &str = "\
Example:
  countermand check --config /etc/countermand.toml

The COUNTERMAND_… variables are read as serve reads them. Exit code: 0 when all is right, 1 on any fault.";

/// Check the configuration and everything that it names
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

/// Prints a line a finding.
pub(crate) async fn run(args: CheckArgs) -> Exit {
    match Config::load(args.into(), Environment::of_process()) {
        Ok(_) => output::to_stdout("the configuration is right"),
        Err(faults) => {
            report(&faults);
            Exit::Failed
        }
    }
}
