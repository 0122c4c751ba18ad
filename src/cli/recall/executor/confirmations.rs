//! The lists of devices that show the outcomes.

use std::{collections::HashMap, io, time::Duration};

use tokio::time::Instant;

use super::{DelayedCall, Executor};
use crate::{
    cli::{
        error::ClientError,
        recall::{outcome::RecallOutcome, tracker::RecallProgress},
        wait::{FIRST_POLL_PAUSE, backoff},
    },
    proto::longrunning::Operation,
};

impl Executor {
    /// Schedules a list of the device if all its cancels are answered and some outcomes are unknown.
    pub(super) fn schedule_confirmation(&mut self, device: usize, pause: Duration) {
        let state = &mut self.tracker.devices[device];
        if state.open_cancels == 0 && !state.unconfirmed.is_empty() && !state.is_listed {
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
        let is_last = now >= *state.confirming_since.get_or_insert(now) + self.confirm_timeout;
        let unconfirmed = std::mem::take(&mut state.unconfirmed);
        let mut outcomes: HashMap<usize, Option<RecallOutcome>> = HashMap::new();
        let problem = match result {
            Ok(operations) => {
                for operation in &operations {
                    let Some(index) = self.tracker.index(&operation.name) else { continue };
                    let outcome = RecallOutcome::of(operation);
                    // The freshest state of an operation whose cancel still waits.
                    if let Some(outcome) = &outcome
                        && self.tracker.operations[index].progress == RecallProgress::Waiting
                    {
                        self.end(index, outcome.clone())?;
                    }
                    outcomes.insert(index, outcome);
                }
                "the list of its device does not have it".to_owned()
            }
            Err(error) => error.line(),
        };
        let mut is_pending = false;
        for index in unconfirmed {
            let progress = self.tracker.operations[index].progress.clone();
            match (outcomes.remove(&index), progress) {
                (Some(Some(outcome)), _) => self.end(index, outcome)?,
                (_, RecallProgress::Ended(_) | RecallProgress::Waiting | RecallProgress::Sent) => {}
                (Some(None), RecallProgress::Journaled | RecallProgress::Interrupted) => {
                    self.tracker.wait(index);
                }
                (Some(None), RecallProgress::Refused(reason)) => {
                    self.end(index, RecallOutcome::Failed(reason))?
                }
                (Some(None), RecallProgress::Accepted) if is_last => {
                    let timeout = humantime::format_duration(self.confirm_timeout);
                    let reason =
                        format!("the cancel was accepted, and the operation is pending after {timeout}");
                    self.end(index, RecallOutcome::Unknown(reason))?;
                }
                (Some(None), RecallProgress::Accepted) => {
                    self.tracker.devices[device].unconfirmed.push(index);
                    is_pending = true;
                }
                (None, _) => self.end(index, RecallOutcome::Unknown(problem.clone()))?,
            }
        }
        let state = &mut self.tracker.devices[device];
        if is_pending {
            let pause = backoff(FIRST_POLL_PAUSE, state.lists);
            state.lists += 1;
            self.schedule_confirmation(device, pause);
        } else {
            (state.lists, state.confirming_since) = (0, None);
        }
        Ok(())
    }
}
