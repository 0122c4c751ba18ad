//! `countermand wait`: waits until an operation is done.

use std::{convert::Infallible, time::Duration};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep},
};
use tonic::{Code, Status};

use super::{
    client::{ServerArgs, ServerClient},
    error::ClientError,
    exit::Exit,
    operation::{self, OperationState},
    output::{self, Format},
    retry::{self, FIRST_POLL_PAUSE, backoff},
};
use crate::{config::duration, proto::longrunning::Operation};

const EXAMPLES: &str = "\
Examples:
  countermand wait enterprises/LC01/devices/d1/operations/17
  countermand wait enterprises/LC01/devices/d1/operations/17 --timeout 1h --output json | jq .response

Prints the operation as get does, when it is done or when the time is over. Ctrl-C stops the wait and leaves
the operation as it is. While the server is UNAVAILABLE, the wait is retried.
Exit codes: 0 done, 3 cancelled, 4 failed, 5 not done in time, 1 error, 2 usage, 69 the server cannot
be reached, 78 unusable TLS files, 130 stopped by Ctrl-C, 143 ended by SIGTERM.";

/// Wait until an operation is done, and report how it ended
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WaitArgs {
    /// The operation: enterprises/*/devices/*/operations/*
    name: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The time limit, including the connection
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    timeout: Duration,

    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Waits for one operation and prints it.
pub(crate) async fn run(args: WaitArgs) -> Exit {
    let WaitArgs { name, server, timeout, output } = args;
    let result = match ServerClient::connect(server, timeout).await {
        Ok(server) => wait(&server, &name, output).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(Waited::Done(operation)) => print(output, &operation, exit_code),
        Ok(Waited::TimedOut(operation)) => print_unfinished(output, &operation, timeout),
        Ok(Waited::Interrupted) => {
            output::to_stderr("stopped waiting; the operation continues");
            Exit::Interrupted
        }
        Err(error) => error.report(output, &name),
    }
}

fn exit_code(state: OperationState) -> Exit {
    match state {
        OperationState::Done => Exit::Ok,
        OperationState::Cancelled => Exit::Cancelled,
        OperationState::Failed => Exit::OperationFailed,
        OperationState::Pending => Exit::TimedOut,
    }
}

/// Prints an operation and returns the exit code of its state. A failure to print takes precedence.
pub(super) fn print(format: Format, operation: &Operation, exit_code: fn(OperationState) -> Exit) -> Exit {
    match operation::print(format, operation) {
        Exit::Ok => exit_code(OperationState::of(operation)),
        failed => failed,
    }
}

/// Prints an operation that was not done after `timeout`.
pub(super) fn print_unfinished(format: Format, operation: &Operation, timeout: Duration) -> Exit {
    let exit = print(format, operation, |_| Exit::TimedOut);
    if format == Format::Text {
        output::complain(&format!("not done after {}", humantime::format_duration(timeout)));
    }
    exit
}

/// The result of a wait.
#[derive(Debug)]
pub(super) enum Waited {
    Done(Operation),
    /// The latest state at the deadline.
    TimedOut(Operation),
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Waits until the operation is done, the deadline passes or the user presses Ctrl-C. Shows progress.
///
/// # Errors
///
/// An error that is not transient, or the last transient error when no call succeeded before the deadline.
pub(super) async fn wait(server: &ServerClient, name: &str, format: Format) -> Result<Waited, ClientError> {
    // Installed before the progress line, because the user may press Ctrl-C when the line appears.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| {
        ClientError::new(Status::internal(format!("cannot handle Ctrl-C: {error}")), Exit::Failed)
    })?;
    let progress = ProgressLine::start(name, format);
    tokio::select! {
        waited = until_done(server.deadline(), async |timeout| server.wait(name, timeout).await) => waited,
        _ = interrupt.recv() => Ok(Waited::Interrupted),
        never = progress.run() => match never {},
    }
}

/// Calls `wait` with the remaining time until the operation is done. A server may answer earlier, for example at its
/// own limit or when it drains, and may be temporarily unavailable.
async fn until_done(
    deadline: Instant,
    mut wait: impl AsyncFnMut(Duration) -> Result<Operation, ClientError>,
) -> Result<Waited, ClientError> {
    // The last response needs this time to arrive before the deadline.
    let margin = (remaining(deadline) / 10).min(Duration::from_secs(1));
    let (mut immediate_responses, mut retries) = (0, 0);
    let mut latest = None;
    loop {
        let started = Instant::now();
        let result = wait(remaining(deadline).saturating_sub(margin)).await;
        let is_last = remaining(deadline) <= margin;
        let pause = match result {
            Ok(operation) if operation.done => return Ok(Waited::Done(operation)),
            Ok(operation) if is_last => return Ok(Waited::TimedOut(operation)),
            Ok(operation) => {
                latest = Some(operation);
                retries = 0;
                let (elapsed, pause) = (started.elapsed(), backoff(FIRST_POLL_PAUSE, immediate_responses));
                // The time in which the server held the call counts as pause.
                immediate_responses = if elapsed < pause { immediate_responses + 1 } else { 0 };
                pause.saturating_sub(elapsed)
            }
            Err(error) if !error.is_transient() => return Err(error),
            Err(error) if is_last => {
                let exit = if error.code() == Code::DeadlineExceeded { Exit::TimedOut } else { error.exit() };
                return latest.map(Waited::TimedOut).ok_or_else(|| error.with_exit(exit));
            }
            Err(error) => {
                let pause = retry::pause(&error, retries);
                retries += 1;
                pause
            }
        };
        sleep(pause.min(remaining(deadline).saturating_sub(margin))).await;
    }
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The line "waiting for …" on standard error. On a terminal, it counts the seconds and is erased at the end of the
/// wait.
struct ProgressLine {
    is_updated: bool,
    operation: String,
    started: Instant,
}

impl ProgressLine {
    /// Prints the line once if standard error is not a terminal and the format is text.
    fn start(name: &str, format: Format) -> Self {
        let is_updated = output::is_replaceable();
        if !is_updated && format == Format::Text {
            output::to_stderr(&format!("waiting for {name}"));
        }
        Self { is_updated, operation: short(name), started: Instant::now() }
    }

    async fn run(&self) -> Infallible {
        if !self.is_updated {
            return std::future::pending().await;
        }
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let elapsed = self.started.elapsed().as_secs();
            output::replace_line(&format!("waiting for {} ({elapsed} s)", self.operation));
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_updated {
            output::replace_line("");
        }
    }
}

/// Shortens a name to its end, because a line that wraps cannot be replaced.
fn short(name: &str) -> String {
    const MAX_CHARS: usize = 40;
    let id = name.rsplit('/').next().unwrap_or_default();
    match id.char_indices().nth_back(MAX_CHARS - 1) {
        Some((start @ 1.., _)) => format!("operation …{}", &id[start..]),
        _ => format!("operation {id}"),
    }
}

#[cfg(test)]
mod tests;
