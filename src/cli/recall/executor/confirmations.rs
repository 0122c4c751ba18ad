//! The lists of devices that show the outcomes.

use std::{collections::HashMap, io, time::Duration};

use tokio::time::Instant;

use super::{DelayedCall, Executor};
use crate::{
    cli::{
        error::ClientError,
        recall::{outcome::RecallOutcome, tracker::RecallProgress},
        retry::{FIRST_POLL_PAUSE, backoff},
    },
    proto::longrunning::Operation,
};

impl Executor {
    /// Schedules a list of the device if some outcomes are unknown and all its cancels are answered. Before the question,
    /// no cancel is sent, and a list shows the operations to ask about. Accepted cancels of earlier runs can wait.
    pub(super) fn schedule_confirmation(&mut self, device: usize, pause: Duration) {
        let may_need_cancel = self.tracker.may_need_cancel(device);
        let state = &mut self.tracker.devices[device];
        let is_due = match self.is_cancelling {
            true => state.open_cancels == 0 && !state.unconfirmed.is_empty(),
            false => may_need_cancel,
        };
        if is_due && !state.is_listed {
            state.is_listed = true;
            self.delay(pause, DelayedCall::Confirmation(device));
        }
    }

    pub(super) fn handle_device(
        &mut self,
        device: usize,
        result: Result<Vec<Operation>, ClientError>,
    ) -> io::Result<()> {
        let now = Instant::now();
        let state = &mut self.tracker.devices[device];
        state.is_listed = false;
        let is_last =
            self.is_cancelling && now >= *state.confirming_since.get_or_insert(now) + self.confirm_timeout;
        let unconfirmed = std::mem::take(&mut state.unconfirmed);
        let mut outcomes: HashMap<usize, Option<RecallOutcome>> = HashMap::new();
        let is_list_failed = result.is_err();
        let problem = match result {
            Ok(operations) => {
                for operation in &operations {
                    let Some(index) = self.tracker.index(&operation.name) else { continue };
                    let outcome = RecallOutcome::of(operation);
                    // The freshest state of an operation whose cancel still waits.
                    if let Some(outcome) = &outcome
                        && self.tracker.operations[index].progress == RecallProgress::Waiting
                    {
                        // Its delayed call would only delay the end of the recall.
                        let is_its =
                            |call: &DelayedCall| matches!(call, DelayedCall::Cancel(of) if *of == index);
                        self.delayed.retain(|_, call| !is_its(call));
                        self.end(index, outcome.clone())?;
                    }
                    outcomes.insert(index, outcome);
                }
                "the list of its device does not have it".to_owned()
            }
            Err(error) => error.line(),
        };
        for index in unconfirmed {
            let progress = self.tracker.operations[index].progress.clone();
            match (outcomes.remove(&index), progress) {
                (Some(Some(outcome)), _) => self.end(index, outcome)?,
                (_, RecallProgress::Ended(_) | RecallProgress::Waiting | RecallProgress::Sent) => {}
                (Some(None), RecallProgress::Journaled | RecallProgress::Interrupted) => {
                    self.tracker.wait(index);
                }
                // It may be pending. If it is done, its cancel changes nothing.
                (None, RecallProgress::Journaled | RecallProgress::Interrupted) if is_list_failed => {
                    self.tracker.wait(index);
                }
                (_, RecallProgress::Refused(reason)) => self.end(index, RecallOutcome::Failed(reason))?,
                (Some(None), RecallProgress::Accepted) if is_last => {
                    let timeout = humantime::format_duration(self.confirm_timeout);
                    let reason =
                        format!("the cancel was accepted, and the operation is pending after {timeout}");
                    self.end(index, RecallOutcome::Unknown(reason))?;
                }
                (Some(None), RecallProgress::Accepted) => {
                    self.tracker.devices[device].unconfirmed.push(index);
                }
                (None, RecallProgress::Accepted) if !self.is_cancelling => {
                    self.tracker.devices[device].unconfirmed.push(index);
                }
                (None, _) => self.end(index, RecallOutcome::Unknown(problem.clone()))?,
            }
        }
        let state = &mut self.tracker.devices[device];
        if state.unconfirmed.is_empty() {
            (state.polls, state.confirming_since) = (0, None);
        } else {
            let pause = backoff(FIRST_POLL_PAUSE, state.polls);
            state.polls += 1;
            self.schedule_confirmation(device, pause);
        }
        Ok(())
    }
}
