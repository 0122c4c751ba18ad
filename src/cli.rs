//! The command line: a file a subcommand.

pub(crate) mod emulate;

use std::process::ExitCode;

use clap::Parser;

/// Calls back Android Management API commands over gRPC
#[derive(Parser)]
#[command(version)]
enum Cli {
    Emulate(emulate::EmulateArgs),
}

/// Parses the command line and runs what it asks for.
pub async fn run() -> ExitCode {
    match Cli::parse() {
        Cli::Emulate(args) => emulate::run(args).await,
    }
}
