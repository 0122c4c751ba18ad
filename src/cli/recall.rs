//! `countermand recall`: cancels the pending operations of an enterprise.
//!
//! It is a client of the public contract: ListOperations over all devices or of each device, CancelOperation, and
//! ListOperations of a device for the outcomes.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use tokio::task::spawn_blocking;
use tonic::Status;

use super::{
    client::{ServerArgs, ServerClient},
    error::ClientError,
    exit::Exit,
    output::{self, Format, complain},
    signals::until_signal,
};
use crate::config::duration;

mod executor;
mod journal;
mod lane;
mod outcome;
mod plan;
mod progress;
mod report;
mod retries;
mod selection;
mod tracker;

use executor::{Executor, RecallError, Stage};
use journal::{Journal, JournalEntry, JournalError};
use plan::RecallPlan;
use report::Summary;
use retries::Retries;
use selection::{Selection, TimeLimit, UtcTime};
use tracker::Tracker;

const EXAMPLES: &str = "\
Examples:
  countermand recall --enterprise LC01 --type WIPE --dry-run
  countermand recall --enterprise LC01 --type WIPE --since 15m --yes --report recall.jsonl
  countermand recall --enterprise LC01 --device d1 --device d2 --all-types --since 2026-01-31T12:00:00Z

Lists the pending operations, shows their number by type and device, and asks. With --yes, cancels go out from
the first page of the list on. The newest operations are cancelled first. An outcome is known when a list of the
device shows it: cancelled, or too late.

A lost connection or an exhausted quota only delays: calls are repeated as the server asks, until Ctrl-C. After
other transient errors, such as those of a device that cannot be read, a call is repeated for --retry-timeout.

--report FILE is a journal. After Ctrl-C, a crash or failed operations, run the same command again: it resumes,
and cancels no operation again whose cancel was accepted. A duration such as --since 15m remains one before
the start of the first run. The last line of the file is the summary.

A device that has received a command cannot be stopped. Calls of devices.delete wipe devices too, but are no
operations: recall does not find them and cannot cancel them.

Exit codes: 0 all cancelled, or nothing found; 6 some were carried out before the cancel; 1 some failed or are
unknown, a list failed, or the answer was no; 2 usage, or the journal of another selection; 69 the server cannot
be reached at the start, or is no gRPC server; 78 unusable TLS files or journal; 130 stopped by Ctrl-C, 143 ended
by SIGTERM.";

/// The time limit of each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit of a connection. It is shorter than that of a call, so that a call without a connection ends with
/// the error of the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Recall pending commands of an enterprise: cancel all operations of the given types
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecallArgs {
    /// The enterprise, for example LC01
    #[arg(long, value_name = "ENTERPRISE", value_parser = selection::enterprise)]
    enterprise: String,

    /// The type of the commands, for example WIPE (repeatable)
    #[arg(long = "type", value_name = "TYPE", value_parser = selection::command_type)]
    #[arg(required_unless_present = "all_types", conflicts_with = "all_types")]
    types: Vec<String>,

    /// Recall commands of all types, also the LOCK of a stolen phone
    #[arg(long)]
    all_types: bool,

    /// A device of the enterprise (repeatable) [default: all devices]
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<String>,

    /// Only commands that were created at this time or later: a duration before now, or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = selection::time_limit)]
    since: Option<TimeLimit>,

    /// Only commands that were created at this time or earlier: a duration before now, or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = selection::time_limit)]
    until: Option<TimeLimit>,

    /// Cancel without a question, from the first page of the list on
    #[arg(long)]
    yes: bool,

    /// Print what would be cancelled, and cancel nothing
    #[arg(long, conflicts_with_all = ["yes", "report"])]
    dry_run: bool,

    /// Write a journal to this file, and resume from it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// How long to ask for the outcome of an accepted cancel before it is unknown
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    confirm_timeout: Duration,

    /// How long to repeat a call that fails, except for a lost connection or an exhausted quota
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    retry_timeout: Duration,

    #[command(flatten)]
    server: ServerArgs,

    /// The format of the report
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// The handling of the operations that a recall found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmation {
    /// Cancels them without a question.
    Given,
    /// Asks.
    Ask,
    /// Prints them.
    DryRun,
}

/// Recalls operations and prints the report.
pub(crate) async fn run(args: RecallArgs) -> Exit {
    let (started, format, has_journal) = (UtcTime::now(), args.output, args.report.is_some());
    let mut executor = None;
    let exit = until_signal(recall(args, started, &mut executor)).await;
    if matches!(exit, Exit::Interrupted | Exit::Terminated) {
        let message = match executor.filter(|executor| executor.is_cancelling) {
            None => "stopped; nothing was cancelled",
            Some(mut executor) => {
                executor.interrupt();
                let summary = Summary::new(executor.tracker.counts(), &executor.failed_lists);
                // A failed output must not replace the exit code of the signal.
                let _ = print_report(&executor, started, &summary.interrupted(exit), format);
                match has_journal {
                    true => "stopped; run the same command again to continue",
                    false => "stopped; accepted cancels stay accepted",
                }
            }
        };
        output::to_stderr(message);
    }
    exit
}

/// Puts the recall into `executor`, which has its state when a signal drops this future.
async fn recall(args: RecallArgs, started: UtcTime, executor: &mut Option<Executor>) -> Exit {
    let RecallArgs { enterprise, types, all_types: _, devices, since, until, .. } = args;
    let RecallArgs { yes, dry_run, report, confirm_timeout, retry_timeout, server, output, .. } = args;
    let confirmation = match (yes, dry_run) {
        (true, _) => Confirmation::Given,
        (_, true) => Confirmation::DryRun,
        _ if io::stdin().is_terminal() => Confirmation::Ask,
        _ => return usage("standard input is not a terminal: give --yes or --dry-run"),
    };
    let devices = devices.iter().map(|text| selection::device(&enterprise, text)).collect();
    let devices = match devices {
        Ok(devices) => devices,
        Err(error) => return usage(&format!("--device: {error}")),
    };
    let types = types.into_iter().collect();
    let selection = Selection { enterprise, devices, types, since, until };
    // A journal has the times of its first run.
    let resumes = report.as_ref().and_then(|path| path.metadata().ok()).is_some_and(|file| file.len() > 0);
    if !resumes && let Err(error) = selection.check_times(UtcTime::now()) {
        return usage(&error);
    }
    for kind in selection.unknown_types() {
        complain(&format!("{kind} is not a type that this version knows: a misspelt type matches nothing"));
    }
    // The connection comes first, so that a recall that cannot start leaves no file.
    let server = match ServerClient::connect(server, CONNECT_TIMEOUT).await {
        Ok(server) => server.with_call_timeout(CALL_TIMEOUT),
        Err(error) => return error.report(output, &selection.all_devices()),
    };
    let (journal, selection, journaled) = match report {
        None => (None, selection, Vec::new()),
        Some(path) => match Journal::open(&path, selection) {
            Ok((journal, selection, journaled)) => (Some(journal), selection, journaled),
            Err(error) => {
                complain(&format!("--report {}: {error}", path.display()));
                return match error {
                    JournalError::Io(_) | JournalError::Locked => Exit::Config,
                    JournalError::NotAJournal(_)
                    | JournalError::NotSelected(_)
                    | JournalError::OtherSelection(_) => Exit::Usage,
                };
            }
        },
    };
    if !journaled.is_empty() && output == Format::Text {
        output::to_stderr(&format!("resumes with {} operations of earlier runs", journaled.len()));
    }
    let (tracker, retries) = (Tracker::resume(journaled), Retries::new(retry_timeout));
    let executor =
        executor.insert(Executor::new(server, selection, confirm_timeout, retries, tracker, journal));
    match execute(executor, started, confirmation, output).await {
        Ok(exit) => exit,
        Err(error @ RecallError::Journal(_)) => {
            complain(&error.to_string());
            Exit::Failed
        }
        Err(error @ RecallError::NoAnswer(_)) => {
            let status = Status::unavailable(error.to_string());
            ClientError::new(status, Exit::Unreachable).report(output, &executor.selection.all_devices())
        }
    }
}

/// Lists, asks if necessary, cancels and reports.
async fn execute(
    executor: &mut Executor,
    started: UtcTime,
    confirmation: Confirmation,
    format: Format,
) -> Result<Exit, RecallError> {
    if confirmation != Confirmation::Given {
        executor.run(Stage::List).await?;
        let plan = RecallPlan::new(&executor.selection, &executor.tracker);
        if confirmation == Confirmation::DryRun {
            return Ok(print_plan(&plan, executor, format));
        }
        if plan.len() > 0 {
            for line in plan.lines() {
                output::to_stderr(&line);
            }
            for (name, error) in &executor.failed_lists {
                output::to_stderr(&format!("not listed: {name}: {}", error.line()));
            }
            match ask(plan.len()).await {
                Ok(true) => {}
                Ok(false) => {
                    output::to_stderr("nothing was cancelled");
                    return Ok(Exit::Failed);
                }
                Err(error) => {
                    complain(&format!("nothing was cancelled, because the answer cannot be read: {error}"));
                    return Ok(Exit::Failed);
                }
            }
        }
    }
    executor.run(Stage::Cancel).await?;
    if let Some((name, error)) = executor.only_error() {
        return Ok(error.report(format, name));
    }
    let summary = Summary::new(executor.tracker.counts(), &executor.failed_lists);
    if let Some(journal) = &mut executor.journal {
        journal.append(&[JournalEntry::Summary { time: UtcTime::now(), summary: &summary }])?;
        journal.sync().await?;
    }
    let exit = summary.exit();
    let printed = match format {
        Format::Text if summary.is_empty() => {
            output::to_stdout(&format!("no pending {}", executor.selection))
        }
        _ => print_report(executor, started, &summary, format),
    };
    Ok(if exit == Exit::Ok { printed } else { exit })
}

fn print_report(executor: &Executor, started: UtcTime, summary: &Summary, format: Format) -> Exit {
    let Executor { selection, tracker, .. } = executor;
    match format {
        Format::Json => output::to_stdout(&report::json(selection, started, summary, tracker)),
        Format::Text => output::all_to_stdout(&report::lines(summary, tracker)),
    }
}

fn print_plan(plan: &RecallPlan<'_>, executor: &Executor, format: Format) -> Exit {
    if let Some((name, error)) = executor.only_error() {
        return error.report(format, name);
    }
    let printed = match format {
        Format::Json => output::to_stdout(&plan.json()),
        Format::Text => output::all_to_stdout(&plan.lines()),
    };
    for (name, error) in &executor.failed_lists {
        complain(&format!("not listed: {name}: {}", error.line()));
    }
    if executor.failed_lists.is_empty() { printed } else { Exit::Failed }
}

/// Asks whether to cancel `count` operations. The end of the input is a no.
async fn ask(count: usize) -> io::Result<bool> {
    output::prompt(&format!("Cancel {count} operations? [y/N] "));
    // The runtime does not wait for this thread if a signal ends the command.
    let answer = spawn_blocking(|| io::stdin().lines().next().unwrap_or_else(|| Ok(String::new())));
    let answer = answer.await.map_err(io::Error::other)??;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn usage(message: &str) -> Exit {
    complain(message);
    Exit::Usage
}
