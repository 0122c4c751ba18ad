//! The report of a recall: the numbers by outcome, and each operation.

use serde::Serialize;

use super::{
    outcome::RecallOutcome,
    selection::{Selection, UtcTime},
    tracker::{RecallCounts, RecallProgress, RecalledOperation, Tracker},
};
use crate::cli::{error::ClientError, exit::Exit, operation::to_json};

/// The number of operations that the text shows.
const MAX_SHOWN: usize = 20;

/// The numbers of a recall. It is the last line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) found: usize,
    pub(super) cancelled: usize,
    pub(super) too_late: usize,
    pub(super) failed: usize,
    pub(super) unknown: usize,
    /// The lists that failed. Operations of these devices may be missing.
    failed_lists: Vec<FailedList>,
    exit_code: u8,
    /// Whether a signal stopped the recall. The report has a member for it.
    #[serde(skip)]
    is_interrupted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FailedList {
    name: String,
    reason: String,
}

/// The whole report.
#[derive(Serialize)]
struct RecallReport<'a> {
    selection: &'a Selection,
    started: UtcTime,
    ended: UtcTime,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    interrupted: bool,
    summary: &'a Summary,
    operations: Vec<ReportedOperation<'a>>,
}

#[derive(Serialize)]
struct ReportedOperation<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    create_time: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Summary {
    pub(super) fn new(counts: RecallCounts, failed_lists: &[(String, ClientError)]) -> Self {
        let RecallCounts { found, answered: _, cancelled, too_late, failed, unknown } = counts;
        let failed_lists: Vec<_> = failed_lists
            .iter()
            .map(|(name, error)| FailedList { name: name.clone(), reason: error.line() })
            .collect();
        let (exit_code, is_interrupted) = (0, false);
        let mut summary =
            Self { found, cancelled, too_late, failed, unknown, failed_lists, exit_code, is_interrupted };
        summary.exit_code = summary.exit() as u8;
        summary
    }

    /// The summary of a recall that a signal stopped.
    pub(super) fn interrupted(self, exit: Exit) -> Self {
        Self { exit_code: exit as u8, is_interrupted: true, ..self }
    }

    /// Whether nothing was found, and no list failed.
    pub(super) fn is_empty(&self) -> bool {
        self.found == 0 && self.failed_lists.is_empty()
    }

    /// 1 if an operation failed or is unknown or a list failed, otherwise 6 if a device was faster, otherwise 0.
    pub(super) fn exit(&self) -> Exit {
        let Self { too_late, failed, unknown, failed_lists, .. } = self;
        if *failed > 0 || *unknown > 0 || !failed_lists.is_empty() {
            Exit::Failed
        } else if *too_late > 0 {
            Exit::TooLate
        } else {
            Exit::Ok
        }
    }
}

/// The report as one line of JSON.
pub(super) fn json(selection: &Selection, started: UtcTime, summary: &Summary, tracker: &Tracker) -> String {
    let operations = outcomes(tracker).map(|(operation, outcome)| ReportedOperation {
        name: &operation.name,
        kind: operation.kind.as_deref(),
        create_time: operation.create_time.as_deref(),
        outcome: outcome.name(),
        reason: outcome.reason(),
    });
    let operations = operations.collect();
    let (ended, interrupted) = (UtcTime::now(), summary.is_interrupted);
    to_json(&RecallReport { selection, started, ended, interrupted, summary, operations })
}

/// The report as text: the numbers, and the operations that were not cancelled.
pub(super) fn lines(summary: &Summary, tracker: &Tracker) -> Vec<String> {
    let Summary { found, cancelled, too_late, failed, unknown, failed_lists, .. } = summary;
    let mut lines: Vec<_> = [
        ("found", found),
        ("cancelled", cancelled),
        ("too late", too_late),
        ("failed", failed),
        ("unknown", unknown),
    ]
    .map(|(word, count)| format!("{word:<10}{count:>7}"))
    .into();
    for FailedList { name, reason } in failed_lists {
        lines.push(format!("not listed: {name}: {reason}"));
    }
    let mut others = outcomes(tracker).filter(|(_, outcome)| **outcome != RecallOutcome::Cancelled);
    for (operation, outcome) in others.by_ref().take(MAX_SHOWN) {
        let reason = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
        lines.push(format!("{}: {}{reason}", outcome.word(), operation.name));
    }
    match others.count() {
        0 => {}
        count => lines
            .push(format!("{count} others are not known to be cancelled: see the journal or --output json")),
    }
    lines
}

fn outcomes(tracker: &Tracker) -> impl Iterator<Item = (&RecalledOperation, &RecallOutcome)> {
    tracker.operations.iter().filter_map(|operation| match &operation.progress {
        RecallProgress::Ended(outcome) => Some((operation, outcome)),
        _ => None,
    })
}
