//! The report of a recall: the numbers by outcome, and each operation.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    outcome::RecallOutcome,
    selection::{Selection, UtcTime},
    tracker::{RecallCounts, RecallProgress, RecalledOperation, Tracker},
};
use crate::cli::{exit::Exit, operation::to_json};

/// The number of operations that the text shows if a journal has all of them.
const MAX_SHOWN: usize = 20;

/// The numbers of a recall. It is the last line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) found: usize,
    pub(super) cancelled: usize,
    pub(super) too_late: usize,
    pub(super) failed: usize,
    pub(super) unknown: usize,
    /// The lists that failed. Operations of these devices may be missing.
    failed_lists: Vec<FailedList>,
    exit_code: u8,
    /// Whether the recall stopped early. The report has a member for it.
    #[serde(skip)]
    is_interrupted: bool,
}

/// A list that failed permanently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedList {
    /// The name in the request.
    pub(super) name: String,
    pub(super) reason: String,
}

impl FailedList {
    pub(super) fn line(&self) -> String {
        let Self { name, reason } = self;
        format!("not listed: {name}: {reason}")
    }
}

/// The report of a recall.
pub(super) struct RecallReport<'a> {
    pub(super) selection: &'a Selection,
    /// The start of the first run.
    pub(super) started: UtcTime,
    pub(super) ended: UtcTime,
    pub(super) summary: &'a Summary,
    pub(super) tracker: &'a Tracker,
    /// The path of the journal.
    pub(super) journal: Option<&'a Path>,
}

/// The whole report.
#[derive(Serialize)]
struct ReportJson<'a> {
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
    pub(super) fn new(counts: RecallCounts, failed_lists: &[FailedList]) -> Self {
        let RecallCounts { found, answered: _, cancelled, too_late, failed, unknown } = counts;
        let (failed_lists, exit_code, is_interrupted) = (failed_lists.to_vec(), 0, false);
        let mut summary =
            Self { found, cancelled, too_late, failed, unknown, failed_lists, exit_code, is_interrupted };
        summary.exit_code = summary.exit() as u8;
        summary
    }

    /// The summary of a recall that stopped early.
    pub(super) fn interrupted(self, exit: Exit) -> Self {
        Self { exit_code: exit as u8, is_interrupted: true, ..self }
    }

    /// Whether a later run has nothing to do.
    pub(super) fn is_finished(&self) -> bool {
        self.exit() != Exit::Failed
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

impl RecallReport<'_> {
    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        let Self { selection, started, ended, summary, tracker, journal: _ } = *self;
        let operations = outcomes(tracker).map(|(operation, outcome)| ReportedOperation {
            name: &operation.name,
            kind: operation.kind.as_deref(),
            create_time: operation.create_time.as_deref(),
            outcome: outcome.name(),
            reason: outcome.reason(),
        });
        let operations = operations.collect();
        let interrupted = summary.is_interrupted;
        to_json(&ReportJson { selection, started, ended, interrupted, summary, operations })
    }

    /// The numbers, and the operations that were not cancelled, first those that a next run retries. The list is cut if
    /// there is a journal.
    pub(super) fn lines(&self) -> Vec<String> {
        let Summary { found, cancelled, too_late, failed, unknown, failed_lists, is_interrupted, .. } =
            self.summary;
        if *found == 0 && failed_lists.is_empty() && !is_interrupted {
            return vec![format!("no pending operations {}", self.selection)];
        }
        let mut lines: Vec<_> = [
            ("found", found),
            ("cancelled", cancelled),
            ("too late", too_late),
            ("failed", failed),
            ("unknown", unknown),
        ]
        .map(|(word, count)| format!("{word:<10}{count:>7}"))
        .into();
        lines.extend(failed_lists.iter().map(FailedList::line));
        let mut others: Vec<_> =
            outcomes(self.tracker).filter(|(_, outcome)| **outcome != RecallOutcome::Cancelled).collect();
        others.sort_by_key(|(_, outcome)| outcome.is_permanent());
        let shown = if self.journal.is_some() { others.len().min(MAX_SHOWN) } else { others.len() };
        for (operation, outcome) in &others[..shown] {
            let reason = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
            lines.push(format!("{}: {}{reason}", outcome.word(), operation.name));
        }
        if let Some(path) = self.journal
            && shown < others.len()
        {
            lines.push(format!("{} more: see {}", others.len() - shown, path.display()));
        }
        lines
    }
}

fn outcomes(tracker: &Tracker) -> impl Iterator<Item = (&RecalledOperation, &RecallOutcome)> {
    tracker.operations.iter().filter_map(|operation| match &operation.progress {
        RecallProgress::Ended(outcome) => Some((operation, outcome)),
        _ => None,
    })
}

/// `1 operation` or `2 operations`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::recall::{
        journal::{JournaledCancel, JournaledOperation},
        selection::tests::selection,
    };

    #[test]
    fn the_operations_that_a_next_run_retries_are_first_and_only_a_journal_shortens_the_list() {
        let name = |number| format!("enterprises/LC01/devices/d1/operations/{number}");
        let ended = |number, outcome| JournaledOperation {
            name: name(number),
            kind: None,
            create_time: None,
            cancel: JournaledCancel::Accepted,
            outcome: Some(outcome),
        };
        let mut operations: Vec<_> =
            (0..30).map(|number| ended(number, RecallOutcome::TooLate(None))).collect();
        operations.push(ended(30, RecallOutcome::Cancelled));
        let mut tracker = Tracker::resume(operations);
        let outcomes = [RecallOutcome::Unknown("u".to_owned()), RecallOutcome::Failed("f".to_owned())];
        for (number, outcome) in (31..).zip(outcomes) {
            tracker.add_pending(name(number), None, None);
            tracker.set(number, RecallProgress::Ended(outcome));
        }
        let summary = Summary::new(tracker.counts(), &[]);
        let (selection, time) = (selection(&["WIPE"]), UtcTime::now());
        let lines = |journal| {
            let (selection, summary, tracker) = (&selection, &summary, &tracker);
            RecallReport { selection, started: time, ended: time, summary, tracker, journal }.lines()
        };
        let whole = lines(None);
        let first = [format!("unknown: {}: u", name(31)), format!("failed: {}: f", name(32))];
        assert_eq!((whole.len(), &whole[5..7]), (5 + 32, &first[..]));
        let cut = lines(Some(Path::new("dir/recall.jsonl")));
        assert_eq!(cut[..25], whole[..25]);
        assert_eq!(cut[25..], ["12 more: see dir/recall.jsonl"]);
    }
}
