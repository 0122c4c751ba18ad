//! The operations that a recall would cancel, for the question and for a dry run.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    report::{FailedList, counted},
    selection::{Selection, UtcTime},
    tracker::{RecallProgress, RecalledOperation, Tracker},
};
use crate::cli::operation::to_json;

/// The number of devices and of operations that the text shows.
const MAX_SHOWN: usize = 10;

/// The operations that a recall would cancel, newest first, and their numbers.
#[derive(Serialize)]
pub(super) struct RecallPlan<'a> {
    dry_run: bool,
    selection: &'a Selection,
    found: usize,
    types: BTreeMap<&'a str, usize>,
    devices: BTreeMap<&'a str, usize>,
    /// The lists that failed. Operations of these devices may be missing.
    failed_lists: &'a [FailedList],
    operations: Vec<PlannedOperation<'a>>,
}

#[derive(Serialize)]
struct PlannedOperation<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    create_time: Option<&'a str>,
}

impl<'a> RecallPlan<'a> {
    pub(super) fn new(
        selection: &'a Selection,
        tracker: &'a Tracker,
        failed_lists: &'a [FailedList],
    ) -> Self {
        let mut planned: Vec<&RecalledOperation> = tracker
            .operations
            .iter()
            .filter(|operation| operation.progress == RecallProgress::Waiting)
            .collect();
        let time = |operation: &RecalledOperation| -> Option<UtcTime> {
            operation.create_time.as_ref().and_then(|time| time.parse().ok())
        };
        planned.sort_by_cached_key(|operation| std::cmp::Reverse(time(operation)));
        let (mut types, mut devices) = (BTreeMap::new(), BTreeMap::new());
        for operation in &planned {
            *types.entry(operation.kind.as_deref().unwrap_or("-")).or_default() += 1;
            *devices.entry(&*tracker.devices[operation.device].name).or_default() += 1;
        }
        let operations = planned.iter().map(|operation| PlannedOperation {
            name: &operation.name,
            kind: operation.kind.as_deref(),
            create_time: operation.create_time.as_deref(),
        });
        Self {
            dry_run: true,
            selection,
            found: planned.len(),
            types,
            devices,
            failed_lists,
            operations: operations.collect(),
        }
    }

    /// The number of operations.
    pub(super) fn len(&self) -> usize {
        self.found
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        to_json(self)
    }

    /// The numbers by type and by device, the newest operations, and the lists that failed.
    pub(super) fn lines(&self) -> Vec<String> {
        let found = counted(self.found, "pending operation");
        let mut lines = vec![format!("{found} {}", self.selection)];
        lines.extend(self.types.iter().map(|(kind, count)| format!("  {count:>7}  {kind}")));
        let mut devices: Vec<_> = self.devices.iter().collect();
        devices.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        if !devices.is_empty() {
            lines.push(match devices.len() {
                1 => "on 1 device:".to_owned(),
                count => format!("on {count} devices, those with the most operations:"),
            });
        }
        lines.extend(devices.iter().take(MAX_SHOWN).map(|(name, count)| format!("  {count:>7}  {name}")));
        if !self.operations.is_empty() {
            lines.push("the newest operations:".to_owned());
        }
        for PlannedOperation { name, kind, create_time } in self.operations.iter().take(MAX_SHOWN) {
            lines.push(format!("  {}  {}  {name}", create_time.unwrap_or("-"), kind.unwrap_or("-")));
        }
        lines.extend(self.failed_lists.iter().map(FailedList::line));
        lines
    }
}
