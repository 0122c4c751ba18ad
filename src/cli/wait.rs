//! `countermand wait`: waits until an operation is done.

use std::time::Duration;

use clap::Args;

use super::{
    connect::{Server, ServerArgs},
    exit::Exit,
    failure::Failure,
    operation::{self, State},
    output::{self, Format},
    waiting::{self, Waited},
};
use crate::{config::duration, proto::longrunning::Operation};

const EXAMPLES: &str = "\
Examples:
  countermand wait enterprises/LC01/devices/d1/operations/17
  countermand wait enterprises/LC01/devices/d1/operations/17 --timeout 1h --output json | jq .response

Prints the operation as get does: when it is done, or as it stands when the time is over. Ctrl-C stops the
waiting and changes nothing about the operation. A server that is away for a while is tried again.
Exit codes: 0 done, 3 cancelled, 4 failed, 5 not done in time, 1 refused, 2 usage, 69 the server cannot
be reached, 78 unusable TLS files, 130 stopped by Ctrl-C.";

/// Wait until an operation is done, and tell how it ended
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WaitArgs {
    /// The operation: enterprises/*/devices/*/operations/*
    name: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The most time to wait, connecting included
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    timeout: Duration,

    /// How to print the operation
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Waits for one operation and prints it.
pub(crate) async fn run(args: WaitArgs) -> Exit {
    let WaitArgs { name, server, timeout, output } = args;
    match wait(&name, server, timeout, output).await {
        Ok(Waited::Done(operation)) => print(output, &operation, verdict),
        Ok(Waited::TimedOut(operation)) => print_unfinished(output, &operation, timeout),
        Ok(Waited::Interrupted) => {
            output::to_stderr("stopped waiting; the operation goes on");
            Exit::Interrupted
        }
        Err(failure) => failure.report(output, &name),
    }
}

async fn wait(name: &str, server: ServerArgs, time: Duration, format: Format) -> Result<Waited, Failure> {
    let server = Server::connect(server, time).await?;
    waiting::wait(&server, name, format).await
}

fn verdict(state: State) -> Exit {
    match state {
        State::Done => Exit::Ok,
        State::Cancelled => Exit::Cancelled,
        State::Failed => Exit::OperationFailed,
        State::Pending => Exit::TimedOut,
    }
}

/// Prints an operation and ends with what `verdict` makes of its state. That the printing failed is the
/// worse news.
pub(crate) fn print(format: Format, operation: &Operation, verdict: fn(State) -> Exit) -> Exit {
    match operation::print(format, operation) {
        Exit::Ok => verdict(State::of(operation)),
        failed => failed,
    }
}

/// Prints an operation that was still not done after `time`.
pub(crate) fn print_unfinished(format: Format, operation: &Operation, time: Duration) -> Exit {
    let exit = print(format, operation, |_| Exit::TimedOut);
    if format == Format::Text {
        output::complain(&format!("not done after {}", humantime::format_duration(time)));
    }
    exit
}
