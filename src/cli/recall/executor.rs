//! Lists, cancels and confirms. All calls of a recall are made here, by one task.
//!
//! Cancels go out from the first page of the list on, newest first among the operations that are known. When all cancels
//! of a device are answered, a list of the device shows their outcomes. Type and creation time of an operation never
//! change. Whether it is done is checked on the freshest state that a list has shown; a cancel of an operation that was
//! done since then changes nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, interval, sleep_until};
use tonic::Code;

use super::{
    journal::{Journal, JournalEntry, SYNC_INTERVAL},
    outcome::RecallOutcome,
    progress::ProgressDisplay,
    selection::{Selection, UtcTime},
    tracker::{RecallProgress, RecalledOperation, Tracker},
};
use crate::{
    cli::{
        client::{MAX_PAGE_SIZE, ServerClient, advance},
        error::ClientError,
        exit::Exit,
        operation::CommandMetadata,
        wait::{FIRST_POLL_PAUSE, FIRST_RETRY_PAUSE, backoff},
    },
    proto::longrunning::{ListOperationsRequest, ListOperationsResponse, Operation},
};

/// The maximum number of cancels in flight. Google's default quota is ten calls a second, which eight calls use up
/// if each takes less than 0.8 s. More would only wait in the server's queue, ahead of the cancels of others.
const MAX_CANCELS: usize = 8;

/// The maximum number of lists in flight. They have their own limit, so that cancels never wait for them.
const MAX_LISTS: usize = 4;

/// The size of the first page. It is small, so that the first cancel leaves early.
const FIRST_PAGE_SIZE: i32 = 10;

/// The pause of a resumed recall before the list of a device. A cancel that was in flight at the end of the earlier run
/// takes effect meanwhile, so that it is not sent twice.
const RESUME_PAUSE: Duration = Duration::from_secs(2);

/// The maximum pause that a server can request, so that no time overflows the clock.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// A recall in progress.
pub(super) struct Executor<'a> {
    server: &'a ServerClient,
    selection: &'a Selection,
    /// The time after the first list of a device until a pending operation becomes unknown.
    confirm_timeout: Duration,
    pub(super) tracker: Tracker,
    pub(super) journal: Option<Journal>,
    /// The lists that failed permanently: the name of the request and the error.
    pub(super) failed_lists: Vec<(String, ClientError)>,
    calls: FuturesUnordered<BoxFuture<'a, CallResult>>,
    cancels: Lane,
    lists: Lane,
    ready_lists: VecDeque<ListCall>,
    /// The lists that are not finished, with those in flight.
    open_lists: usize,
    ready_confirmations: VecDeque<usize>,
    delayed: BTreeMap<(Instant, u64), DelayedCall>,
    delayed_count: u64,
    /// The failed attempts of each operation's cancel.
    retries: HashMap<usize, i32>,
    display: ProgressDisplay,
    latest_error: Option<String>,
}

/// The calls of one kind. The server and the API have separate limits for cancels and for reads.
struct Lane {
    in_flight: usize,
    paused_until: Instant,
    failures: i32,
}

/// A list whose operations may be cancelled.
struct ListCall {
    request: ListOperationsRequest,
    /// Whether the device may have vanished, because the server named it and not the user.
    may_vanish: bool,
    retries: i32,
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

/// The part of a recall that a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Lists, and sends no cancel.
    List,
    /// Lists what is not listed yet, cancels and confirms.
    Cancel,
}

impl<'a> Executor<'a> {
    pub(super) fn new(
        server: &'a ServerClient,
        selection: &'a Selection,
        confirm_timeout: Duration,
        tracker: Tracker,
        journal: Option<Journal>,
        display: ProgressDisplay,
    ) -> Self {
        let list = |name: String, filter: String, page_size: i32, partial: bool| ListCall {
            request: ListOperationsRequest {
                name,
                filter,
                page_size,
                return_partial_success: partial,
                ..ListOperationsRequest::default()
            },
            may_vanish: false,
            retries: 0,
        };
        let ready_lists: VecDeque<_> = if selection.devices.is_empty() {
            [list(selection.all_devices(), selection.filter(), FIRST_PAGE_SIZE, true)].into()
        } else {
            selection
                .devices
                .iter()
                .map(|device| list(device.clone(), String::new(), MAX_PAGE_SIZE, false))
                .collect()
        };
        let mut executor = Self {
            server,
            selection,
            confirm_timeout,
            tracker,
            journal,
            failed_lists: Vec::new(),
            calls: FuturesUnordered::new(),
            cancels: Lane::new(),
            lists: Lane::new(),
            open_lists: ready_lists.len(),
            ready_lists,
            ready_confirmations: VecDeque::new(),
            delayed: BTreeMap::new(),
            delayed_count: 0,
            retries: HashMap::new(),
            display,
            latest_error: None,
        };
        for device in 0..executor.tracker.devices.len() {
            executor.schedule_confirmation(device, RESUME_PAUSE);
        }
        executor
    }

    /// Makes calls until the stage is finished. It can be dropped at any time, and continued from the journal.
    ///
    /// # Errors
    ///
    /// The journal cannot be written.
    pub(super) async fn run(&mut self, stage: Stage) -> io::Result<()> {
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
                .filter(|(can_start, lane)| *can_start && lane.paused_until > now)
                .map(|(_, lane)| lane.paused_until);
            let wake = resumed.chain(next_delayed).min();
            tokio::select! {
                Some(result) = self.calls.next() => self.handle(result)?,
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
                _ = ticks.tick() => {
                    self.show();
                    if let Some(journal) = &mut self.journal {
                        journal.sync().await?;
                    }
                }
            }
        }
        self.display.end();
        match &mut self.journal {
            Some(journal) => journal.sync().await,
            None => Ok(()),
        }
    }

    fn show(&mut self) {
        let now = Instant::now();
        let is_paused = self.cancels.paused_until > now || self.lists.paused_until > now;
        let problem = self.latest_error.as_deref().filter(|_| is_paused);
        self.display.show(&self.tracker, self.open_lists > 0, problem);
    }

    /// Starts the calls whose time has come, up to the limits.
    fn start_calls(&mut self, stage: Stage) -> io::Result<()> {
        let now = Instant::now();
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                DelayedCall::Cancel(index) => self.tracker.wait(index),
                DelayedCall::Confirmation(device) => self.ready_confirmations.push_back(device),
                DelayedCall::List(list) => self.ready_lists.push_back(list),
            }
        }
        let server = self.server;
        while stage == Stage::Cancel && self.cancels.is_open(MAX_CANCELS, now) {
            let Some(index) = self.tracker.next_ready() else { break };
            self.cancels.in_flight += 1;
            let name = self.tracker.operations[index].name.clone();
            append(&mut self.journal, &[JournalEntry::CancelSent { name: &name, time: UtcTime::now() }])?;
            let call = async move { CallResult::Cancel(index, server.cancel(&name).await) };
            self.calls.push(call.boxed());
        }
        while self.lists.is_open(MAX_LISTS, now) {
            if let Some(list) = self.ready_lists.pop_front() {
                let request = list.request.clone();
                let call = async move { CallResult::Page(list, server.list(request).await) };
                self.calls.push(call.boxed());
            } else if let Some(device) = self.ready_confirmations.pop_front() {
                let name = self.tracker.devices[device].name.clone();
                let call = async move { CallResult::Device(device, server.list_device(&name).await) };
                self.calls.push(call.boxed());
            } else {
                break;
            }
            self.lists.in_flight += 1;
        }
        Ok(())
    }

    fn handle(&mut self, result: CallResult) -> io::Result<()> {
        self.display.count_call();
        let lane = if matches!(result, CallResult::Cancel(..)) { &mut self.cancels } else { &mut self.lists };
        lane.in_flight -= 1;
        match result {
            CallResult::Cancel(index, result) => self.handle_cancel(index, result),
            CallResult::Page(list, result) => self.handle_page(list, result),
            CallResult::Device(device, result) => self.handle_device(device, result),
        }
    }

    fn handle_cancel(&mut self, index: usize, result: Result<(), ClientError>) -> io::Result<()> {
        match result {
            Ok(()) => {
                self.cancels.failures = 0;
                self.retries.remove(&index);
                let name = &self.tracker.operations[index].name;
                append(&mut self.journal, &[JournalEntry::CancelAccepted { name, time: UtcTime::now() }])?;
                self.tracker.set(index, RecallProgress::Accepted);
            }
            Err(error) if error.is_transient_or_quota() => {
                let retries = self.retries.entry(index).or_default();
                let pause = self.cancels.pause(&error, *retries);
                *retries += 1;
                if error.code() == Code::ResourceExhausted {
                    // Lists would use up what the quota allows next.
                    self.lists.paused_until = self.lists.paused_until.max(self.cancels.paused_until);
                }
                self.latest_error = Some(error.line());
                self.delay(pause, DelayedCall::Cancel(index));
                return Ok(());
            }
            // The operation is probably done already.
            Err(error) if error.code() == Code::FailedPrecondition => {
                self.tracker.set(index, RecallProgress::Refused(error.line()));
            }
            Err(error) => self.end(index, RecallOutcome::Failed(error.line()))?,
        }
        self.schedule_confirmation(self.tracker.operations[index].device, FIRST_POLL_PAUSE);
        Ok(())
    }

    fn handle_page(
        &mut self,
        mut list: ListCall,
        result: Result<ListOperationsResponse, ClientError>,
    ) -> io::Result<()> {
        let ListOperationsResponse { operations, next_page_token, unreachable } = match result {
            Ok(page) => page,
            Err(error) if error.is_transient_or_quota() => {
                let pause = self.lists.pause(&error, list.retries);
                list.retries += 1;
                self.latest_error = Some(error.line());
                self.delay(pause, DelayedCall::List(list));
                return Ok(());
            }
            Err(error) => {
                if !(list.may_vanish && error.code() == Code::NotFound) {
                    self.failed_lists.push((list.request.name, error));
                }
                self.finish_list();
                return Ok(());
            }
        };
        self.lists.failures = 0;
        self.add_found(operations)?;
        for name in unreachable {
            let page_size = MAX_PAGE_SIZE;
            let request = ListOperationsRequest { name, page_size, ..ListOperationsRequest::default() };
            self.open_lists += 1;
            let list = ListCall { request, may_vanish: true, retries: 0 };
            self.delay(FIRST_POLL_PAUSE, DelayedCall::List(list));
        }
        match advance(&mut list.request, next_page_token) {
            Ok(true) => {
                list.retries = 0;
                list.request.page_size = list.request.page_size.saturating_mul(2).min(MAX_PAGE_SIZE);
                self.ready_lists.push_front(list);
            }
            Ok(false) => self.finish_list(),
            Err(error) => {
                self.failed_lists.push((list.request.name, error));
                self.finish_list();
            }
        }
        Ok(())
    }

    /// Adds the pending operations of a page that the selection has. They are in the journal before they are cancelled.
    fn add_found(&mut self, operations: Vec<Operation>) -> io::Result<()> {
        let first = self.tracker.operations.len();
        for operation in operations {
            let CommandMetadata { kind, created, duration: _, error_code: _ } =
                CommandMetadata::of(&operation);
            let time = created.as_ref().and_then(|created| created.parse().ok());
            let is_selected = self.selection.matches(kind.as_deref(), time);
            if !operation.done && is_selected && self.selection.has_device_of(&operation.name) {
                self.tracker.add_pending(operation.name, kind, created);
            }
        }
        let found: Vec<_> = self.tracker.operations[first..].iter().map(found).collect();
        append(&mut self.journal, &found)
    }

    fn finish_list(&mut self) {
        self.open_lists -= 1;
        if self.open_lists == 0 {
            self.tracker.confirm_journaled();
            for device in 0..self.tracker.devices.len() {
                self.schedule_confirmation(device, Duration::ZERO);
            }
        }
    }

    /// Schedules a list of the device if all its cancels are answered and some outcomes are unknown.
    fn schedule_confirmation(&mut self, device: usize, pause: Duration) {
        let state = &mut self.tracker.devices[device];
        if state.open_cancels == 0 && !state.unconfirmed.is_empty() && !state.is_listed {
            state.is_listed = true;
            self.delay(pause, DelayedCall::Confirmation(device));
        }
    }

    fn handle_device(
        &mut self,
        device: usize,
        result: Result<Vec<Operation>, ClientError>,
    ) -> io::Result<()> {
        let now = Instant::now();
        let state = &mut self.tracker.devices[device];
        let operations = match result {
            Err(error) if error.is_transient_or_quota() => {
                let pause = self.lists.pause(&error, state.lists);
                state.lists += 1;
                self.latest_error = Some(error.line());
                self.delay(pause, DelayedCall::Confirmation(device));
                return Ok(());
            }
            other => other,
        };
        state.is_listed = false;
        let is_last = now >= *state.confirming_since.get_or_insert(now) + self.confirm_timeout;
        let unconfirmed = std::mem::take(&mut state.unconfirmed);
        let mut outcomes: HashMap<usize, Option<RecallOutcome>> = HashMap::new();
        let problem = match operations {
            Ok(operations) => {
                self.lists.failures = 0;
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

    fn end(&mut self, index: usize, outcome: RecallOutcome) -> io::Result<()> {
        let (name, time) = (&self.tracker.operations[index].name, UtcTime::now());
        let entry = JournalEntry::Outcome { name, time, outcome: outcome.name(), reason: outcome.reason() };
        append(&mut self.journal, &[entry])?;
        self.tracker.set(index, RecallProgress::Ended(outcome));
        Ok(())
    }

    fn delay(&mut self, pause: Duration, call: DelayedCall) {
        self.delayed_count += 1;
        self.delayed.insert((Instant::now() + pause, self.delayed_count), call);
    }
}

fn append(journal: &mut Option<Journal>, entries: &[JournalEntry<'_>]) -> io::Result<()> {
    journal.as_mut().map_or(Ok(()), |journal| journal.append(entries))
}

fn found(operation: &RecalledOperation) -> JournalEntry<'_> {
    let RecalledOperation { name, kind, create_time, device: _, progress: _ } = operation;
    JournalEntry::Found { name, kind: kind.as_deref(), create_time: create_time.as_deref() }
}

impl Lane {
    fn new() -> Self {
        Self { in_flight: 0, paused_until: Instant::now(), failures: 0 }
    }

    fn is_open(&self, max: usize, now: Instant) -> bool {
        self.in_flight < max && self.paused_until <= now
    }

    /// The pause before a call is repeated after a transient error. An error that other calls would have too pauses the
    /// whole lane: the server requests a delay, the quota is exhausted, or the connection is lost.
    fn pause(&mut self, error: &ClientError, retries: i32) -> Duration {
        let now = Instant::now();
        let requested = error.retry_delay();
        let is_of_all = requested.is_some()
            || error.code() == Code::ResourceExhausted
            || error.exit() == Exit::Unreachable;
        let pause = backoff(FIRST_RETRY_PAUSE, retries.max(if is_of_all { self.failures } else { 0 }));
        let pause = pause.max(requested.unwrap_or_default()).min(MAX_PAUSE);
        if is_of_all {
            // The calls that were in flight together count as one failure.
            if self.paused_until <= now {
                self.failures = self.failures.saturating_add(1);
            }
            self.paused_until = self.paused_until.max(now + pause);
        }
        pause
    }
}
