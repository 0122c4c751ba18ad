//! Lists, cancels and confirms. All calls of a recall are made here, by one task.
//!
//! Cancels go out from the first page of the list on, newest first among the operations that are known. When all cancels
//! of a device are answered, a list of the device shows their outcomes. Type and creation time of an operation never
//! change. Whether it is done is checked on the freshest state that a list has shown, also before a cancel is repeated. A
//! cancel of an operation that was done since then changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    future, io,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, interval, sleep_until};
use tonic::Code;

use super::{
    journal::{Journal, JournalEntry, SYNC_INTERVAL},
    lane::{CallStart, Lane},
    outcome::RecallOutcome,
    progress::ProgressDisplay,
    report::{FailedList, RecallReport, Summary},
    retries::{CallKind, Retries},
    selection::{Selection, UtcTime},
    tracker::{RecallProgress, RecalledOperation, Tracker},
};
use crate::{
    cli::{client::ServerClient, error::ClientError, exit::Exit, retry::FIRST_POLL_PAUSE},
    proto::longrunning::{ListOperationsResponse, Operation},
};

mod confirmations;
mod lists;

use lists::{AllDevicesList, ListCall};

/// The maximum number of cancels in flight. Google's default quota is ten calls a second, which eight calls use up
/// if each takes less than 0.8 s. More would only wait in the server's queue, ahead of the cancels of others.
const MAX_CANCELS: usize = 8;

/// The maximum number of lists in flight. They have their own limit, so that cancels never wait for them.
const MAX_LISTS: usize = 4;

/// The pause of a resumed recall before the list of a device. A cancel that was in flight at the end of the earlier run
/// takes effect meanwhile, so that it is not sent twice.
const RESUME_PAUSE: Duration = Duration::from_secs(2);

/// A recall in progress.
pub(super) struct Executor {
    server: Arc<ServerClient>,
    /// The start of the first run.
    started: UtcTime,
    pub(super) selection: Selection,
    /// The time after the first list of a device until a pending operation becomes unknown.
    confirm_timeout: Duration,
    pub(super) tracker: Tracker,
    pub(super) journal: Option<Journal>,
    pub(super) failed_lists: Vec<FailedList>,
    calls: FuturesUnordered<BoxFuture<'static, (CallStart, CallResult)>>,
    cancels: Lane,
    lists: Lane,
    ready_lists: VecDeque<ListCall>,
    /// The lists that are not finished, with those in flight.
    open_lists: usize,
    all_devices_list: AllDevicesList,
    /// The devices that a list over all devices could not read.
    unreachable: HashSet<String>,
    /// The operations that a time limit excludes because their creation time is unknown.
    without_time: BTreeSet<String>,
    ready_confirmations: VecDeque<usize>,
    delayed: BTreeMap<(Instant, u64), DelayedCall>,
    delayed_count: u64,
    retries: Retries,
    /// Whether the server has answered a call.
    is_answered: bool,
    /// Whether this run may have sent a cancel.
    pub(super) is_cancelling: bool,
    display: ProgressDisplay,
}

enum DelayedCall {
    Cancel(usize),
    Confirmation(usize),
    List(ListCall),
}

enum CallResult {
    Cancel(usize, Result<(), ClientError>),
    Page(ListCall, Result<ListOperationsResponse, ClientError>),
    Device(usize, Result<Vec<Operation>, ClientError>),
}

/// The reason why a recall ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecallError {
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] io::Error),
    /// The connection broke before the first answer of the server, so it is probably not a server of gRPC.
    #[error("--server is no gRPC server, or it stopped: {}", .0.message())]
    NoAnswer(ClientError),
}

/// The part of a recall that a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Lists, and sends no cancel.
    List,
    /// Lists what is not listed yet, cancels and confirms.
    Cancel,
}

impl Executor {
    pub(super) fn new(
        server: ServerClient,
        started: UtcTime,
        selection: Selection,
        confirm_timeout: Duration,
        retries: Retries,
        tracker: Tracker,
        journal: Option<Journal>,
    ) -> Self {
        let ready_lists: VecDeque<_> = ListCall::of_selection(&selection).into();
        let all_devices_list = AllDevicesList::of_selection(&selection);
        Self {
            server: Arc::new(server),
            started,
            selection,
            confirm_timeout,
            tracker,
            journal,
            failed_lists: Vec::new(),
            calls: FuturesUnordered::new(),
            cancels: Lane::new(MAX_CANCELS),
            lists: Lane::new(MAX_LISTS),
            open_lists: ready_lists.len(),
            ready_lists,
            all_devices_list,
            unreachable: HashSet::new(),
            without_time: BTreeSet::new(),
            ready_confirmations: VecDeque::new(),
            delayed: BTreeMap::new(),
            delayed_count: 0,
            retries,
            is_answered: false,
            is_cancelling: false,
            display: ProgressDisplay::new(),
        }
    }

    /// Makes calls until the stage is finished. It can be dropped at any time, and continued from the journal.
    ///
    /// # Errors
    ///
    /// The journal cannot be written, or the connection broke before the first answer of the server.
    pub(super) async fn run(&mut self, stage: Stage) -> Result<(), RecallError> {
        self.is_cancelling = stage == Stage::Cancel;
        for device in 0..self.tracker.devices.len() {
            self.schedule_confirmation(device, RESUME_PAUSE);
        }
        let mut ticks = interval(SYNC_INTERVAL / 2);
        loop {
            self.start_calls(stage)?;
            let next_delayed = self.delayed.first_key_value().map(|(&(time, _), _)| time);
            let can_cancel = stage == Stage::Cancel && self.tracker.has_ready();
            let can_list = !self.ready_lists.is_empty() || !self.ready_confirmations.is_empty();
            if self.calls.is_empty() && next_delayed.is_none() && !can_cancel && !can_list {
                break;
            }
            let now = Instant::now();
            // A lane that is not paused waits for the end of a call, not for a time.
            let resumed = [(can_cancel, &self.cancels), (can_list, &self.lists)]
                .into_iter()
                .filter(|(can_start, _)| *can_start)
                .filter_map(|(_, lane)| lane.paused_until(now));
            let wake = resumed.chain(next_delayed).min();
            tokio::select! {
                Some((start, result)) = self.calls.next() => self.handle(start, result)?,
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
                result = end_sync(&mut self.journal) => result?,
                _ = ticks.tick() => {
                    self.show();
                    if let Some(journal) = &mut self.journal {
                        journal.start_sync();
                    }
                }
            }
        }
        self.display.end();
        if let Some(journal) = &mut self.journal {
            journal.flush().await?;
        }
        Ok(())
    }

    /// Ends a recall that stopped early: the operations without an outcome are unknown. The journal is not changed.
    pub(super) fn interrupt(&mut self) {
        self.display.end();
        for index in 0..self.tracker.operations.len() {
            let RecalledOperation { name, progress, .. } = &self.tracker.operations[index];
            let failed = self.retries.error(CallKind::Cancel, name);
            let reason = match (progress, failed) {
                (RecallProgress::Ended(_), _) => continue,
                (RecallProgress::Waiting | RecallProgress::Sent, Some(error)) => {
                    format!("stopped while its cancel was repeated: {error}")
                }
                (RecallProgress::Journaled, _) => "stopped before its state was known".to_owned(),
                (RecallProgress::Waiting, None) => "stopped before its cancel".to_owned(),
                (RecallProgress::Sent, None) => "stopped before its cancel was answered".to_owned(),
                (RecallProgress::Interrupted | RecallProgress::Accepted | RecallProgress::Refused(_), _) => {
                    "stopped before its outcome was known".to_owned()
                }
            };
            self.tracker.set(index, RecallProgress::Ended(RecallOutcome::Unknown(reason)));
        }
    }

    /// The report of a recall that ends now.
    pub(super) fn report<'a>(&'a self, summary: &'a Summary) -> RecallReport<'a> {
        let Self { started, selection, tracker, journal, .. } = self;
        let (started, ended, journal) = (*started, UtcTime::now(), journal.as_ref().map(Journal::path));
        RecallReport { selection, started, ended, summary, tracker, journal }
    }

    fn show(&mut self) {
        let problem = self.retries.line();
        self.display.show(&self.tracker, self.open_lists > 0, problem.as_deref());
    }

    /// Starts the calls whose time has come, up to the limits.
    fn start_calls(&mut self, stage: Stage) -> io::Result<()> {
        let now = Instant::now();
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                DelayedCall::Cancel(index) => self.tracker.make_ready(index),
                // A list that decides whether a cancel is needed comes first.
                DelayedCall::Confirmation(device) if self.tracker.may_need_cancel(device) => {
                    self.ready_confirmations.push_front(device);
                }
                DelayedCall::Confirmation(device) => self.ready_confirmations.push_back(device),
                DelayedCall::List(list) => self.make_list_ready(list),
            }
        }
        while stage == Stage::Cancel && self.cancels.is_open(now) {
            let Some(index) = self.tracker.next_ready() else { break };
            let name = self.tracker.operations[index].name.clone();
            append(&mut self.journal, &[JournalEntry::CancelSent { name: &name, time: UtcTime::now() }])?;
            let (start, server) = (self.cancels.start(), Arc::clone(&self.server));
            let call = async move { (start, CallResult::Cancel(index, server.cancel(&name).await)) };
            self.calls.push(call.boxed());
        }
        while self.lists.is_open(now) {
            let Some(call) = self.next_list() else { break };
            let start = self.lists.start();
            self.calls.push(call.map(move |result| (start, result)).boxed());
        }
        Ok(())
    }

    fn handle(&mut self, start: CallStart, result: CallResult) -> Result<(), RecallError> {
        self.display.count_call();
        match result {
            CallResult::Cancel(index, result) => {
                let name = self.tracker.operations[index].name.clone();
                let call = || DelayedCall::Cancel(index);
                match self.settle(CallKind::Cancel, &name, call, start, result)? {
                    Some(result) => self.handle_cancel(index, result)?,
                    None => self.tracker.delay(index),
                }
            }
            CallResult::Page(list, result) => {
                let call = || DelayedCall::List(list.clone());
                match self.settle(CallKind::List, &list.request.name, call, start, result)? {
                    Some(result) => self.handle_page(list, result)?,
                    None => self.mark_delayed(&list),
                }
            }
            CallResult::Device(device, result) => {
                let name = self.tracker.devices[device].name.clone();
                let call = || DelayedCall::Confirmation(device);
                if let Some(result) = self.settle(CallKind::Confirmation, &name, call, start, result)? {
                    self.handle_device(device, result)?;
                }
            }
        }
        Ok(())
    }

    /// Ends an attempt of a call. Returns its result, or `None` if the call is repeated later.
    fn settle<T>(
        &mut self,
        kind: CallKind,
        name: &str,
        call: impl FnOnce() -> DelayedCall,
        start: CallStart,
        result: Result<T, ClientError>,
    ) -> Result<Option<Result<T, ClientError>>, RecallError> {
        let lane = if kind == CallKind::Cancel { &mut self.cancels } else { &mut self.lists };
        match result {
            Err(error) if error.exit() == Exit::Unreachable && !self.is_answered => {
                Err(RecallError::NoAnswer(error))
            }
            Err(error) if error.is_transient_or_quota() => {
                // The client itself may have ended the call at its deadline.
                self.is_answered |= error.code() != Code::DeadlineExceeded;
                let pause = self.retries.failed(kind, name, lane, start, &error);
                if kind == CallKind::Cancel && error.code() == Code::ResourceExhausted {
                    // Lists would use up what the quota allows next.
                    self.lists.pause_with(&self.cancels);
                }
                if let Some(pause) = pause {
                    self.delay(pause, call());
                    return Ok(None);
                }
                self.retries.remove(kind, name);
                Ok(Some(Err(error)))
            }
            result => {
                self.is_answered = true;
                lane.answered(start);
                self.retries.remove(kind, name);
                Ok(Some(result))
            }
        }
    }

    fn handle_cancel(&mut self, index: usize, result: Result<(), ClientError>) -> io::Result<()> {
        match result {
            Ok(()) => {
                let name = &self.tracker.operations[index].name;
                append(&mut self.journal, &[JournalEntry::CancelAccepted { name, time: UtcTime::now() }])?;
                self.tracker.set(index, RecallProgress::Accepted);
            }
            // The operation may be done already, and the cancel may take effect in spite of its error.
            Err(error) => self.tracker.set(index, RecallProgress::Refused(error.line())),
        }
        self.schedule_confirmation(self.tracker.operations[index].device, FIRST_POLL_PAUSE);
        Ok(())
    }

    fn end(&mut self, index: usize, outcome: RecallOutcome) -> io::Result<()> {
        let RecalledOperation { name, is_cancel_sent, .. } = &self.tracker.operations[index];
        let outcome = if *is_cancel_sent { outcome } else { outcome.without_cancel() };
        let time = UtcTime::now();
        let entry = JournalEntry::Outcome { name, time, outcome: outcome.name(), reason: outcome.reason() };
        append(&mut self.journal, &[entry])?;
        self.retries.remove(CallKind::Cancel, name);
        self.tracker.set(index, RecallProgress::Ended(outcome));
        Ok(())
    }

    fn delay(&mut self, pause: Duration, call: DelayedCall) {
        self.delayed_count += 1;
        self.delayed.insert((Instant::now() + pause, self.delayed_count), call);
    }
}

async fn end_sync(journal: &mut Option<Journal>) -> io::Result<()> {
    match journal {
        Some(journal) => journal.end_sync().await,
        None => future::pending().await,
    }
}

fn append(journal: &mut Option<Journal>, entries: &[JournalEntry<'_>]) -> io::Result<()> {
    journal.as_mut().map_or(Ok(()), |journal| journal.append(entries))
}
