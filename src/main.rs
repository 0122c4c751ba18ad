//! The `countermand` program: parse, run, exit code.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    countermand::cli::run().await
}
