//! `countermand cancel`: calls a command back.

use std::time::Duration;

use clap::Args;

use super::{
    connect::{Server, ServerArgs},
    exit::Exit,
    output::{self, Failure, Format},
};
use crate::{
    config::duration,
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
};

const EXAMPLES: &str = "\
Examples:
  countermand cancel enterprises/LC01/devices/d1/operations/17
  countermand cancel enterprises/LC01/devices/d1/operations/17 --output json | jq -r .code
  countermand cancel enterprises/LC01/devices/d1/operations/17 --server https://mdm.example:443 \\
      --tls-ca ca.pem --tls-cert me.pem --tls-key me.key

A cancel is best effort: that it was accepted does not mean that the device will not act.
Exit codes: 0 accepted, 1 refused or too late, 2 usage, 69 the server cannot be reached, 78 unusable TLS
files.";

/// Cancel an operation: call a command back before the device runs it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CancelArgs {
    /// The operation: enterprises/*/devices/*/operations/*
    name: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The most time to take, connecting included
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,

    /// How to print the outcome
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Cancels one operation and prints how that went.
pub(crate) async fn run(args: CancelArgs) -> Exit {
    let CancelArgs { name, server, timeout, output } = args;
    let result = cancel(name.clone(), server, timeout).await;
    output::outcome(output, &name, &format!("cancel accepted: {name}"), &result)
}

async fn cancel(name: String, server: ServerArgs, timeout: Duration) -> Result<(), Failure> {
    let server = Server::connect(server, timeout).await?;
    let request = CancelOperationRequest { name };
    server
        .call(request, |channel, request| async {
            OperationsClient::new(channel).cancel_operation(request).await
        })
        .await
}
