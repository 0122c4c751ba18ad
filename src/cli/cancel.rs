//! `countermand cancel`: cancels an operation.

use std::time::Duration;

use clap::Args;
use tonic::Code;

use super::{
    client::{ServerArgs, ServerClient},
    error::{self, ClientError},
    exit::Exit,
    operation::OperationState,
    output::{self, Format},
    wait::{Waited, print, print_unfinished, wait},
};
use crate::config::duration;

const EXAMPLES: &str = "\
Examples:
  countermand cancel enterprises/LC01/devices/d1/operations/17
  countermand cancel enterprises/LC01/devices/d1/operations/17 --wait
  countermand cancel enterprises/LC01/devices/d1/operations/17 --output json | jq -r .code
  countermand cancel enterprises/LC01/devices/d1/operations/17 --server https://mdm.example:443 \\
      --tls-ca ca.pem --tls-cert me.pem --tls-key me.key

A cancel is best effort: the device may still run the command after the cancel is accepted. With --wait, the
operation is printed when it is done or when the time is over.
Exit codes: 0 accepted, 1 error or timeout, 2 usage, 69 the server cannot be reached, 78 unusable TLS files,
130 stopped by Ctrl-C, 143 ended by SIGTERM. With --wait: 0 cancelled, 6 done before the cancel, 4 failed
for another reason, 5 not done in time.";

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

const WAIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Cancel an operation: call a command back before the device runs it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CancelArgs {
    /// The operation: enterprises/*/devices/*/operations/*
    name: String,

    /// Wait until the operation is done, and report whether it was cancelled
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    server: ServerArgs,

    /// The time limit, including the connection [default: 30s, with --wait 10m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,

    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Cancels one operation and prints the outcome.
pub(crate) async fn run(args: CancelArgs) -> Exit {
    let CancelArgs { name, wait, server, timeout, output } = args;
    let timeout = timeout.unwrap_or(if wait { WAIT_TIMEOUT } else { CALL_TIMEOUT });
    let result = match ServerClient::connect(server, timeout).await {
        Ok(server) if wait => cancel_and_wait(&server, &name, timeout, output).await,
        Ok(server) => cancel(&server, &name, output).await,
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| error.report(output, &name))
}

async fn cancel(server: &ServerClient, name: &str, format: Format) -> Result<Exit, ClientError> {
    server.cancel(name).await?;
    Ok(match format {
        Format::Text => output::to_stdout(&accepted(name)),
        Format::Json => output::to_stdout(&error::json(name, None)),
    })
}

async fn cancel_and_wait(
    server: &ServerClient,
    name: &str,
    timeout: Duration,
    format: Format,
) -> Result<Exit, ClientError> {
    if let Err(error) = server.cancel(name).await {
        if error.code() != Code::FailedPrecondition {
            return Err(error);
        }
        // The operation is probably done already. Its state is then printed in place of the error.
        return match server.get(name).await {
            Ok(operation) if operation.done => Ok(print(format, &operation, exit_code)),
            Ok(_) | Err(_) => Err(error),
        };
    }
    if format == Format::Text {
        // If this line cannot be written, printing the operation fails too and sets the exit code.
        let _ = output::to_stdout(&accepted(name));
    }
    Ok(match wait(server, name, format).await? {
        Waited::Done(operation) => print(format, &operation, exit_code),
        Waited::TimedOut(operation) => print_unfinished(format, &operation, timeout),
        Waited::Interrupted => {
            output::to_stderr("stopped waiting; the cancel was accepted");
            Exit::Interrupted
        }
    })
}

fn accepted(name: &str) -> String {
    format!("cancel accepted: {name}")
}

fn exit_code(state: OperationState) -> Exit {
    match state {
        OperationState::Cancelled => Exit::Ok,
        OperationState::Done => Exit::TooLate,
        OperationState::Failed => Exit::OperationFailed,
        OperationState::Pending => Exit::TimedOut,
    }
}
