//! `countermand recall`: cancels the pending operations of an enterprise.
//!
//! It is a client of the public contract: ListOperations over all devices or of each device, CancelOperation, and
//! ListOperations of a device for the outcomes.

use std::{
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
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
use journal::{Journal, JournalEntry, JournalError, OpenedJournal};
use plan::RecallPlan;
use report::{RecallReport, Summary, counted};
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

A lost connection, an exhausted quota or a server that is not ready only delays: calls are repeated as the server
asks, until Ctrl-C. After other transient errors, such as those of a device that cannot be read, a call is repeated
for --retry-timeout.

--report FILE is a journal. After Ctrl-C, a crash or failed operations, run the same command again: it resumes,
and cancels no operation again whose cancel was accepted, unless its outcome is unknown. A duration such as
--since 15m remains one before the start of the first run. The last line of the file is the summary. If its
exit code is 0 or 6, the recall is finished: the same command only prints the report again.

--since and --until do not select an operation without a readable creation time. With --device, the recall
prints their number. In a list over all devices, the server hides them.

A device that has received a command cannot be stopped. Calls of devices.delete wipe devices too, but are no
operations: recall does not find them and cannot cancel them.

Exit codes: 0 all cancelled, or nothing found; 6 devices ran some before the cancel; 1 some failed or are
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

    /// How long to repeat a call that fails, except for a lost connection, an exhausted quota or a server that is not
    /// ready
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
    let (format, has_journal) = (args.output, args.report.is_some());
    let mut executor = None;
    let recall = async { recall(args, &mut executor).await.unwrap_or_else(|exit| exit) };
    let exit = until_signal(recall).await;
    if matches!(exit, Exit::Interrupted | Exit::Terminated) {
        let hint = match has_journal {
            true => "run the same command again to continue",
            false => "accepted cancels stay accepted",
        };
        let hint = report_early(executor, exit, format).unwrap_or(hint);
        output::to_stderr(&format!("stopped; {hint}"));
    }
    exit
}

/// Prints the report so far of a recall that stops early. If it has not begun to cancel, returns the message instead.
fn report_early(executor: Option<Executor>, exit: Exit, format: Format) -> Option<&'static str> {
    let Some(mut executor) = executor.filter(|executor| executor.is_cancelling) else {
        return Some("nothing was cancelled");
    };
    executor.interrupt();
    let summary = Summary::new(executor.tracker.counts(), &executor.failed_lists).interrupted(exit);
    // A failed output must not replace the exit code of the stop.
    let _ = print(&executor.report(&summary), format);
    None
}

/// Puts the recall into `executor`, which has its state when a signal drops this future. Both results are exit codes.
async fn recall(args: RecallArgs, executor: &mut Option<Executor>) -> Result<Exit, Exit> {
    let confirmation = args.confirmation()?;
    let selection = args.selection()?;
    let RecallArgs { report, confirm_timeout, retry_timeout, server, output, .. } = args;
    let has_journal = |path: &&PathBuf| path.metadata().is_ok_and(|file| file.len() > 0);
    let mut opened = None;
    if let Some(path) = report.as_ref().filter(has_journal) {
        opened = Some(open_unfinished(path, &selection, output)?);
    } else {
        // A journal has the times of its first run.
        selection.check_times(UtcTime::now()).map_err(|error| usage(&error))?;
    }
    for kind in selection.unknown_types() {
        complain(&format!("{kind} is not a type that this version knows: a misspelt type matches nothing"));
    }
    let server = ServerClient::connect(server, CONNECT_TIMEOUT).await;
    let server = server.map_err(|error| error.report(output, &selection.all_devices()))?;
    // A new file is made after the connection, so that a recall that cannot start leaves none.
    if let (None, Some(path)) = (&opened, &report) {
        opened = Some(open_unfinished(path, &selection, output)?);
    }
    let (journal, started, selection, operations) = match opened {
        None => (None, UtcTime::now(), selection, Vec::new()),
        Some(OpenedJournal { journal, started, selection, operations, is_resumed, finished: _ }) => {
            if is_resumed {
                let count = counted(operations.len(), "operation");
                output::to_stderr(&format!(
                    "resumes with {count} of earlier runs; the first run began at {started} and selects operations \
                     {selection}"
                ));
            }
            (Some(journal), started, selection, operations)
        }
    };
    let (tracker, retries) = (Tracker::resume(operations), Retries::new(retry_timeout));
    let server = server.with_call_timeout(CALL_TIMEOUT);
    let new = Executor::new(server, started, selection, confirm_timeout, retries, tracker, journal);
    match execute(executor.insert(new), confirmation, output).await {
        Ok(exit) => Ok(exit),
        Err(RecallError::Journal(error)) => {
            let hint = report_early(executor.take(), Exit::Failed, output).unwrap_or(match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    "free space and run the same command again"
                }
                _ => "run the same command again to continue",
            });
            complain(&format!("stopped, because the journal cannot be written: {error}; {hint}"));
            Err(Exit::Failed)
        }
        Err(error @ RecallError::NoAnswer(_)) => {
            if let Some(journal) = executor.as_mut().and_then(|executor| executor.journal.take())
                && let Err(error) = journal.remove_unused()
            {
                complain(&format!("the journal of this run cannot be removed: {error}"));
            }
            let status = Status::unavailable(error.to_string());
            let name =
                executor.as_ref().map_or_else(String::new, |executor| executor.selection.all_devices());
            Err(ClientError::new(status, Exit::Unreachable).report(output, &name))
        }
    }
}

impl RecallArgs {
    fn confirmation(&self) -> Result<Confirmation, Exit> {
        match (self.yes, self.dry_run) {
            (true, _) => Ok(Confirmation::Given),
            (_, true) => Ok(Confirmation::DryRun),
            _ if io::stdin().is_terminal() => Ok(Confirmation::Ask),
            _ => Err(usage("standard input is not a terminal: give --yes or --dry-run")),
        }
    }

    fn selection(&self) -> Result<Selection, Exit> {
        let Self { enterprise, types, devices, since, until, .. } = self;
        let devices: Result<_, _> = devices.iter().map(|text| selection::device(enterprise, text)).collect();
        let devices = devices.map_err(|error| usage(&format!("--device: {error}")))?;
        Ok(Selection {
            enterprise: enterprise.clone(),
            devices,
            types: types.iter().cloned().collect(),
            since: since.clone(),
            until: until.clone(),
        })
    }
}

/// Prints the report of a finished recall, which ended at `ended`.
fn print_again(opened: &OpenedJournal, ended: UtcTime, summary: &Summary, format: Format) -> Exit {
    let OpenedJournal { journal, started, selection, operations, .. } = opened;
    let path = journal.path();
    complain(&format!(
        "{} is of a recall that finished at {ended}; nothing was listed. Give another file for a new recall",
        path.display()
    ));
    let tracker = &Tracker::resume(operations.clone());
    print_and_exit(
        &RecallReport { selection, started: *started, ended, summary, tracker, journal: Some(path) },
        format,
    )
}

/// Opens the journal. If another process has finished its recall, prints the report.
fn open_unfinished(path: &Path, selection: &Selection, format: Format) -> Result<OpenedJournal, Exit> {
    let opened = open(path, selection)?;
    match &opened.finished {
        Some((ended, summary)) => Err(print_again(&opened, *ended, summary, format)),
        None => Ok(opened),
    }
}

/// Opens the journal, or complains.
fn open(path: &Path, selection: &Selection) -> Result<OpenedJournal, Exit> {
    Journal::open(path, selection).map_err(|error| {
        complain(&format!("--report {}: {error}", path.display()));
        match error {
            JournalError::Io(_) | JournalError::Locked => Exit::Config,
            JournalError::NotAJournal(_) | JournalError::NotSelected(_) | JournalError::OtherSelection(_) => {
                Exit::Usage
            }
        }
    })
}

/// Lists, asks if necessary, cancels and reports.
async fn execute(
    executor: &mut Executor,
    confirmation: Confirmation,
    format: Format,
) -> Result<Exit, RecallError> {
    if confirmation != Confirmation::Given {
        executor.run(Stage::List).await?;
        let plan = RecallPlan::new(&executor.selection, &executor.tracker, &executor.failed_lists);
        if confirmation == Confirmation::DryRun {
            let printed = match format {
                Format::Json => output::to_stdout(&plan.json()),
                Format::Text => output::all_to_stdout(&plan.lines()),
            };
            return Ok(if executor.failed_lists.is_empty() { printed } else { Exit::Failed });
        }
        if plan.len() > 0 {
            for line in plan.lines() {
                output::to_stderr(&line);
            }
            if !ask(plan.len()).await {
                output::to_stderr("nothing was cancelled");
                return Ok(Exit::Failed);
            }
        }
    }
    executor.run(Stage::Cancel).await?;
    let summary = Summary::new(executor.tracker.counts(), &executor.failed_lists);
    if let Some(journal) = &mut executor.journal {
        journal.append(&[JournalEntry::Summary { time: UtcTime::now(), summary: &summary }])?;
        journal.flush().await?;
    }
    Ok(print_and_exit(&executor.report(&summary), format))
}

fn print(report: &RecallReport<'_>, format: Format) -> Exit {
    match format {
        Format::Json => output::to_stdout(&report.json()),
        Format::Text => output::all_to_stdout(&report.lines()),
    }
}

/// Prints the report. Returns the exit code of the recall, or that of a failed output after a success.
fn print_and_exit(report: &RecallReport<'_>, format: Format) -> Exit {
    let printed = print(report, format);
    match report.summary.exit() {
        Exit::Ok => printed,
        exit => exit,
    }
}

/// A question, whose line has no end until the answer. A drop without an answer ends the line.
struct Question {
    is_answered: bool,
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_answered {
            output::to_stderr("");
        }
    }
}

/// Asks whether to cancel `count` operations. An answer that cannot be read is a no.
async fn ask(count: usize) -> bool {
    output::prompt(&format!("Cancel {}? [y/N] ", counted(count, "operation")));
    let mut question = Question { is_answered: false };
    // The runtime does not wait for this thread if a signal ends the command.
    let answer = spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let Ok(Ok(answer)) = answer.await else { return false };
    question.is_answered = answer.ends_with('\n');
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn usage(message: &str) -> Exit {
    complain(message);
    Exit::Usage
}
