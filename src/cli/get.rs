//! `countermand get`: shows one operation.

use std::time::Duration;

use clap::Args;

use super::{
    client::{ServerArgs, ServerClient},
    error::ClientError,
    exit::Exit,
    operation,
    output::Format,
};
use crate::{config::duration, proto::longrunning::Operation};

const EXAMPLES: &str = "\
Examples:
  countermand get enterprises/LC01/devices/d1/operations/17
  countermand get enterprises/LC01/devices/d1/operations/17 --output json | jq .done

With --output json, the operation is printed as google.longrunning.Operation in protobuf's JSON mapping,
an error as an object with a code and a message.
Exit codes: 0 shown, in any state, 1 error or timeout, 2 usage, 69 the server cannot be reached, 78 unusable
TLS files, 130 stopped by Ctrl-C, 143 ended by SIGTERM.";

/// Show an operation: pending, done, cancelled or failed
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    /// The operation: enterprises/*/devices/*/operations/*
    name: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The time limit, including the connection
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,

    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints one operation.
pub(crate) async fn run(args: GetArgs) -> Exit {
    let GetArgs { name, server, timeout, output } = args;
    match get(&name, server, timeout).await {
        Ok(operation) => operation::print(output, &operation),
        Err(error) => error.report(output, &name),
    }
}

async fn get(name: &str, server: ServerArgs, timeout: Duration) -> Result<Operation, ClientError> {
    ServerClient::connect(server, timeout).await?.get(name).await
}
