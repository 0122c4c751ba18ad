//! `countermand cancel`: calls a command back.

use std::time::Duration;

use clap::Args;
use tonic::Code;

use super::{
    connect::{Server, ServerArgs},
    exit::Exit,
    failure::{self, Failure},
    operation::State,
    output::{self, Format},
    wait::{print, print_unfinished},
    waiting::{self, Waited},
};
use crate::config::duration;

const EXAMPLES: &str = "\
Examples:
  countermand cancel enterprises/LC01/devices/d1/operations/17
  countermand cancel enterprises/LC01/devices/d1/operations/17 --wait
  countermand cancel enterprises/LC01/devices/d1/operations/17 --output json | jq -r .code
  countermand cancel enterprises/LC01/devices/d1/operations/17 --server https://mdm.example:443 \\
      --tls-ca ca.pem --tls-cert me.pem --tls-key me.key

A cancel is best effort: that it was accepted does not mean that the device will not act. With --wait, the
operation is printed when it is done, or as it stands when the time is over.
Exit codes: 0 accepted, 1 refused or too late, 2 usage, 69 the server cannot be reached, 78 unusable TLS
files. With --wait: 0 cancelled, 6 done before the cancel, 4 failed for another reason, 5 not done in
time, 130 stopped by Ctrl-C.";

/// The time that a call may take.
const CALL: Duration = Duration::from_secs(30);

/// The time that a wait may take.
const WAIT: Duration = Duration::from_secs(600);

/// Cancel an operation: call a command back before the device runs it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CancelArgs {
    /// The operation: enterprises/*/devices/*/operations/*
    name: String,

    /// Wait until the operation is done, and tell whether it was cancelled
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    server: ServerArgs,

    /// The most time to take, connecting included [default: 30s, with --wait 10m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,

    /// How to print the outcome
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Cancels one operation and prints how that went.
pub(crate) async fn run(args: CancelArgs) -> Exit {
    let CancelArgs { name, wait, server, timeout, output } = args;
    let timeout = timeout.unwrap_or(if wait { WAIT } else { CALL });
    let ended = match Server::connect(server, timeout).await {
        Ok(server) if wait => cancel_and_wait(&server, &name, timeout, output).await,
        Ok(server) => cancel(&server, &name, output).await,
        Err(failure) => Err(failure),
    };
    ended.unwrap_or_else(|failure| failure.report(output, &name))
}

async fn cancel(server: &Server, name: &str, format: Format) -> Result<Exit, Failure> {
    server.cancel(name).await?;
    Ok(match format {
        Format::Text => output::to_stdout(&accepted(name)),
        Format::Json => output::to_stdout(&failure::object(name, None)),
    })
}

async fn cancel_and_wait(
    server: &Server,
    name: &str,
    timeout: Duration,
    format: Format,
) -> Result<Exit, Failure> {
    if let Err(refusal) = server.cancel(name).await {
        if refusal.code() != Code::FailedPrecondition {
            return Err(refusal);
        }
        // Most likely it is done already, and how it ended is what was asked for.
        return match server.get(name).await {
            Ok(operation) if operation.done => Ok(print(format, &operation, verdict)),
            Ok(_) | Err(_) => Err(refusal),
        };
    }
    if format == Format::Text {
        // Whether this can be written is noticed when the operation is.
        let _ = output::to_stdout(&accepted(name));
    }
    Ok(match waiting::wait(server, name, format).await? {
        Waited::Done(operation) => print(format, &operation, verdict),
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

fn verdict(state: State) -> Exit {
    match state {
        State::Cancelled => Exit::Ok,
        State::Done => Exit::TooLate,
        State::Failed => Exit::OperationFailed,
        State::Pending => Exit::TimedOut,
    }
}
