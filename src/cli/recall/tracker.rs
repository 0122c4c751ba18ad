//! The operations of a recall and their states.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    journal::{JournaledCancel, JournaledOperation},
    outcome::RecallOutcome,
    selection::UtcTime,
};
use crate::cli::operation::device_of;

/// An operation that the recall found.
pub(super) struct RecalledOperation {
    pub(super) name: Arc<str>,
    pub(super) kind: Option<String>,
    /// RFC 3339, as the API has it.
    pub(super) create_time: Option<String>,
    pub(super) device: usize,
    /// Whether this run or an earlier one sent a cancel.
    pub(super) is_cancel_sent: bool,
    pub(super) progress: RecallProgress,
}

/// The progress of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecallProgress {
    /// An earlier run found it, and this run has not seen its state yet.
    Journaled,
    /// An earlier run sent its cancel and got no response. A list shows whether it is needed again.
    Interrupted,
    /// Its cancel waits to be sent, or to be sent again.
    Waiting,
    /// Its cancel was sent, and has no response yet.
    Sent,
    /// Its cancel was accepted.
    Accepted,
    /// Its cancel has an error and is not repeated. The operation may be done, and the cancel may take effect.
    Refused(String),
    Ended(RecallOutcome),
}

/// A device with operations of the recall.
pub(super) struct RecalledDevice {
    pub(super) name: Arc<str>,
    /// The operations whose cancels have no response yet.
    pub(super) open_cancels: usize,
    /// The operations whose states the next list of the device shows.
    pub(super) unconfirmed: Vec<usize>,
    /// Whether a list of the device is scheduled or sent.
    pub(super) is_listed: bool,
    /// The time of the first list after the last cancel.
    pub(super) confirming_since: Option<Instant>,
    /// The lists since then that showed a pending operation.
    pub(super) polls: i32,
}

/// The number of operations by progress.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecallCounts {
    pub(super) found: usize,
    /// The operations whose cancel was answered, or is not needed.
    pub(super) answered: usize,
    pub(super) cancelled: usize,
    pub(super) too_late: usize,
    pub(super) failed: usize,
    pub(super) unknown: usize,
}

impl RecallCounts {
    /// The number of operations without an outcome.
    pub(super) fn left(&self) -> usize {
        let Self { found, answered: _, cancelled, too_late, failed, unknown } = self;
        found.saturating_sub(cancelled + too_late + failed + unknown)
    }
}

/// All operations of a recall, in the order in which they were found.
#[derive(Default)]
pub(super) struct Tracker {
    pub(super) operations: Vec<RecalledOperation>,
    pub(super) devices: Vec<RecalledDevice>,
    operation_indexes: HashMap<Arc<str>, usize>,
    device_indexes: HashMap<Arc<str>, usize>,
    /// The operations whose cancel can be sent, newest first.
    ready: BinaryHeap<(Option<UtcTime>, Reverse<usize>)>,
}

impl Tracker {
    /// The operations of the earlier runs in a journal.
    pub(super) fn resume(journaled: Vec<JournaledOperation>) -> Self {
        let mut tracker = Self::default();
        for JournaledOperation { name, kind, create_time, cancel, outcome } in journaled {
            let progress = match (outcome, cancel) {
                (Some(outcome), _) if outcome.is_permanent() => RecallProgress::Ended(outcome),
                // A failed or an unknown operation is retried.
                (Some(_), _) | (None, JournaledCancel::NotSent) => RecallProgress::Journaled,
                (None, JournaledCancel::Unanswered) => RecallProgress::Interrupted,
                (None, JournaledCancel::Accepted) => RecallProgress::Accepted,
            };
            let index = tracker.insert(name, kind, create_time, progress);
            tracker.operations[index].is_cancel_sent = cancel != JournaledCancel::NotSent;
        }
        tracker
    }

    fn insert(
        &mut self,
        name: String,
        kind: Option<String>,
        create_time: Option<String>,
        progress: RecallProgress,
    ) -> usize {
        let index = self.operations.len();
        let device_name = device_of(&name);
        let device = match self.device_indexes.get(device_name) {
            Some(&device) => device,
            None => {
                let (device, device_name) = (self.devices.len(), Arc::<str>::from(device_name));
                self.device_indexes.insert(Arc::clone(&device_name), device);
                self.devices.push(RecalledDevice {
                    name: device_name,
                    open_cancels: 0,
                    unconfirmed: Vec::new(),
                    is_listed: false,
                    confirming_since: None,
                    polls: 0,
                });
                device
            }
        };
        if matches!(progress, RecallProgress::Accepted | RecallProgress::Interrupted) {
            self.devices[device].unconfirmed.push(index);
        }
        let (name, is_cancel_sent) = (Arc::<str>::from(name), false);
        self.operation_indexes.insert(Arc::clone(&name), index);
        let operation = RecalledOperation { name, kind, create_time, device, is_cancel_sent, progress };
        self.operations.push(operation);
        index
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.operation_indexes.get(name).copied()
    }

    /// Adds a pending operation that a list showed.
    pub(super) fn add_pending(&mut self, name: String, kind: Option<String>, create_time: Option<String>) {
        let index = match self.index(&name) {
            Some(index) => index,
            None => self.insert(name, kind, create_time, RecallProgress::Journaled),
        };
        if self.operations[index].progress == RecallProgress::Journaled {
            self.wait(index);
        }
    }

    /// Whether the next list of a device decides whether an operation of an earlier run still needs a cancel.
    pub(super) fn may_need_cancel(&self, device: usize) -> bool {
        self.devices[device].unconfirmed.iter().any(|index| {
            let progress = &self.operations[*index].progress;
            matches!(progress, RecallProgress::Journaled | RecallProgress::Interrupted)
        })
    }

    /// Lets the first cancel of this run for an operation be sent.
    pub(super) fn wait(&mut self, index: usize) {
        let operation = &mut self.operations[index];
        operation.progress = RecallProgress::Waiting;
        self.devices[operation.device].open_cancels += 1;
        self.make_ready(index);
    }

    /// Lets a waiting cancel be sent now. It is not sent if a list has shown that the operation is done.
    pub(super) fn make_ready(&mut self, index: usize) {
        let created = self.operations[index].create_time.as_ref().and_then(|time| time.parse().ok());
        self.ready.push((created, Reverse(index)));
    }

    /// Lets a sent cancel wait until [`Self::make_ready`].
    pub(super) fn delay(&mut self, index: usize) {
        self.operations[index].progress = RecallProgress::Waiting;
    }

    /// The newest operation whose cancel can be sent, and marks it as sent.
    pub(super) fn next_ready(&mut self) -> Option<usize> {
        loop {
            let (_, Reverse(index)) = self.ready.pop()?;
            // A list of its device may have shown that it is done.
            let operation = &mut self.operations[index];
            if operation.progress == RecallProgress::Waiting {
                (operation.progress, operation.is_cancel_sent) = (RecallProgress::Sent, true);
                return Some(index);
            }
        }
    }

    /// Whether a cancel can be sent now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Records the progress of an operation after its cancel was answered or became unnecessary.
    pub(super) fn set(&mut self, index: usize, progress: RecallProgress) {
        let operation = &mut self.operations[index];
        let device = &mut self.devices[operation.device];
        if matches!(operation.progress, RecallProgress::Waiting | RecallProgress::Sent) {
            device.open_cancels -= 1;
        }
        if matches!(progress, RecallProgress::Accepted | RecallProgress::Refused(_)) {
            device.unconfirmed.push(index);
            // The time for its confirmation begins.
            (device.confirming_since, device.polls) = (None, 0);
        }
        operation.progress = progress;
    }

    /// Lets the lists of the devices show the operations that only earlier runs found. They are not pending any more,
    /// or the list ended early. This is called once.
    pub(super) fn confirm_journaled(&mut self) {
        for (index, operation) in self.operations.iter().enumerate() {
            if operation.progress == RecallProgress::Journaled {
                self.devices[operation.device].unconfirmed.push(index);
            }
        }
    }

    /// The operations by progress.
    pub(super) fn counts(&self) -> RecallCounts {
        let mut counts = RecallCounts { found: self.operations.len(), ..RecallCounts::default() };
        for operation in &self.operations {
            let counter = match &operation.progress {
                RecallProgress::Journaled
                | RecallProgress::Interrupted
                | RecallProgress::Waiting
                | RecallProgress::Sent => continue,
                RecallProgress::Accepted | RecallProgress::Refused(_) => {
                    counts.answered += 1;
                    continue;
                }
                RecallProgress::Ended(RecallOutcome::Cancelled) => &mut counts.cancelled,
                RecallProgress::Ended(RecallOutcome::TooLate(_)) => &mut counts.too_late,
                RecallProgress::Ended(RecallOutcome::Failed(_)) => &mut counts.failed,
                RecallProgress::Ended(RecallOutcome::Unknown(_)) => &mut counts.unknown,
            };
            *counter += 1;
            counts.answered += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tracker: &mut Tracker, id: &str, created: Option<&str>) {
        let name = format!("enterprises/LC01/devices/d1/operations/{id}");
        tracker.add_pending(name, Some("WIPE".to_owned()), created.map(str::to_owned));
    }

    fn ids(tracker: &mut Tracker) -> Vec<String> {
        let indexes: Vec<_> = std::iter::from_fn(|| tracker.next_ready()).collect();
        let name = |index: usize| tracker.operations[index].name.rsplit_once('/').unwrap().1.to_owned();
        indexes.into_iter().map(name).collect()
    }

    #[test]
    fn the_newest_operation_is_the_first_and_one_without_a_time_the_last() {
        let mut tracker = Tracker::default();
        add(&mut tracker, "old", Some("2026-01-01T00:00:00Z"));
        add(&mut tracker, "without", None);
        add(&mut tracker, "newest", Some("2026-01-01T03:00:00+01:00"));
        add(&mut tracker, "newer", Some("2026-01-01T01:00:00.5Z"));
        add(&mut tracker, "newest", Some("2026-01-01T03:00:00+01:00"));
        assert_eq!(ids(&mut tracker), ["newest", "newer", "old", "without"]);
        assert_eq!(tracker.devices[0].open_cancels, 4);
    }

    #[test]
    fn an_operation_that_ended_before_its_cancel_is_not_cancelled() {
        let mut tracker = Tracker::default();
        add(&mut tracker, "1", None);
        add(&mut tracker, "2", None);
        tracker.set(0, RecallProgress::Ended(RecallOutcome::TooLate(None)));
        assert_eq!(ids(&mut tracker), ["2"]);
        tracker.set(1, RecallProgress::Accepted);
        assert_eq!((tracker.devices[0].open_cancels, &tracker.devices[0].unconfirmed[..]), (0, &[1][..]));
        let counts = tracker.counts();
        assert_eq!((counts.found, counts.answered, counts.too_late, counts.left()), (2, 2, 1, 1));
    }

    #[test]
    fn a_delayed_cancel_is_sent_when_it_is_ready_unless_the_operation_ended() {
        let mut tracker = Tracker::default();
        add(&mut tracker, "1", None);
        add(&mut tracker, "2", None);
        assert_eq!(ids(&mut tracker), ["1", "2"]);
        for index in [0, 1] {
            tracker.delay(index);
        }
        assert!(!tracker.has_ready());
        tracker.set(0, RecallProgress::Ended(RecallOutcome::TooLate(None)));
        for index in [0, 1] {
            tracker.make_ready(index);
        }
        assert_eq!(ids(&mut tracker), ["2"]);
        assert_eq!(tracker.devices[0].open_cancels, 1);
    }

    #[test]
    fn a_resumed_operation_is_cancelled_again_only_if_its_cancel_was_not_accepted() {
        let journaled = |id: &str, cancel, outcome| JournaledOperation {
            name: format!("enterprises/LC01/devices/d1/operations/{id}"),
            kind: None,
            create_time: None,
            cancel,
            outcome,
        };
        let failed = RecallOutcome::Failed("PERMISSION_DENIED".to_owned());
        let mut tracker = Tracker::resume(vec![
            journaled("found", JournaledCancel::NotSent, None),
            journaled("accepted", JournaledCancel::Accepted, None),
            journaled("cancelled", JournaledCancel::Accepted, Some(RecallOutcome::Cancelled)),
            journaled("failed", JournaledCancel::Unanswered, Some(failed)),
            journaled("gone", JournaledCancel::NotSent, None),
            journaled("sent", JournaledCancel::Unanswered, None),
        ]);
        assert_eq!(ids(&mut tracker), [""; 0]);
        let sent: Vec<_> = tracker.operations.iter().map(|operation| operation.is_cancel_sent).collect();
        assert_eq!(sent, [false, true, true, true, false, true]);
        for id in ["found", "accepted", "cancelled", "failed", "sent", "new"] {
            add(&mut tracker, id, None);
        }
        assert_eq!(ids(&mut tracker), ["found", "failed", "new"]);
        tracker.confirm_journaled();
        assert_eq!(tracker.devices[0].unconfirmed, [1, 5, 4]);
    }
}
