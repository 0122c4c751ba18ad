//! The lists that show the operations to cancel.

use std::{io, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tonic::Code;

use super::{CallResult, DelayedCall, Executor, append};
use crate::{
    cli::{
        client::{MAX_PAGE_SIZE, advance},
        error::ClientError,
        operation::CommandMetadata,
        output::complain,
        recall::{
            journal::JournalEntry,
            report::{FailedList, counted},
            selection::{self, Selection},
            tracker::RecalledOperation,
        },
        retry::FIRST_POLL_PAUSE,
    },
    proto::longrunning::{ListOperationsRequest, ListOperationsResponse, Operation},
};

/// The size of the first page. It is small, so that the first cancel leaves early.
const FIRST_PAGE_SIZE: i32 = 10;

/// The maximum number of lists for outcomes between two pages of the list over all devices. They show early whether the
/// cancels take effect, and are few, because the pages have operations to cancel. They wait while a page is in flight,
/// because the server would send their queries before those of the page.
const MAX_CONFIRMATIONS_BEFORE_PAGE: usize = 16;

/// A list whose operations may be cancelled.
#[derive(Clone)]
pub(super) struct ListCall {
    pub(super) request: ListOperationsRequest,
    kind: ListKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListKind {
    AllDevices,
    /// A device of the selection.
    Device,
    /// A device that the server named. It may have vanished.
    UnreachableDevice,
}

/// The state of the list over all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllDevicesList {
    /// Its next page can be sent after at most this number of lists for outcomes.
    Ready { confirmations: usize },
    /// A page is in flight.
    InFlight,
    /// A page waits for its retry.
    Delayed,
    /// It has ended, or the selection has devices.
    Ended,
}

impl AllDevicesList {
    /// The state at the start of a recall.
    pub(super) fn of_selection(selection: &Selection) -> Self {
        if selection.devices.is_empty() { Self::Ready { confirmations: 0 } } else { Self::Ended }
    }

    /// Whether a list for outcomes can be sent now.
    fn permits_confirmation(self) -> bool {
        match self {
            Self::Ready { confirmations } => confirmations > 0,
            Self::InFlight => false,
            Self::Delayed | Self::Ended => true,
        }
    }
}

impl ListCall {
    /// The list over all devices, or one list for each device of the selection.
    pub(super) fn of_selection(selection: &Selection) -> Vec<Self> {
        if selection.devices.is_empty() {
            let request = ListOperationsRequest {
                name: selection.all_devices(),
                filter: selection.filter(),
                page_size: FIRST_PAGE_SIZE,
                return_partial_success: true,
                ..ListOperationsRequest::default()
            };
            return vec![Self { request, kind: ListKind::AllDevices }];
        }
        selection.devices.iter().map(|device| Self::of_device(device.clone(), ListKind::Device)).collect()
    }

    fn of_device(name: String, kind: ListKind) -> Self {
        let page_size = MAX_PAGE_SIZE;
        let request = ListOperationsRequest { name, page_size, ..ListOperationsRequest::default() };
        Self { request, kind }
    }
}

impl Executor {
    /// The next list to send: a list of operations to cancel, or one for outcomes.
    pub(super) fn next_list(&mut self) -> Option<BoxFuture<'static, CallResult>> {
        let server = Arc::clone(&self.server);
        let may_confirm = self.all_devices_list.permits_confirmation();
        let precedes_page = matches!(self.all_devices_list, AllDevicesList::Ready { .. });
        let confirms_first = precedes_page && may_confirm && !self.ready_confirmations.is_empty();
        if !confirms_first && let Some(list) = self.ready_lists.pop_front() {
            if list.kind == ListKind::AllDevices {
                self.all_devices_list = AllDevicesList::InFlight;
            }
            let request = list.request.clone();
            return Some(async move { CallResult::Page(list, server.list(request).await) }.boxed());
        }
        let device = if may_confirm { self.ready_confirmations.pop_front()? } else { return None };
        if let AllDevicesList::Ready { confirmations } = &mut self.all_devices_list {
            *confirmations -= 1;
        }
        let name = self.tracker.devices[device].name.clone();
        Some(async move { CallResult::Device(device, server.list_device(&name).await) }.boxed())
    }

    /// Marks a list as one that waits for its retry.
    pub(super) fn mark_delayed(&mut self, list: &ListCall) {
        if list.kind == ListKind::AllDevices {
            self.all_devices_list = AllDevicesList::Delayed;
        }
    }

    /// Lets a delayed list be sent now.
    pub(super) fn make_list_ready(&mut self, list: ListCall) {
        if list.kind == ListKind::AllDevices {
            self.all_devices_list = AllDevicesList::Ready { confirmations: 0 };
        }
        self.ready_lists.push_back(list);
    }

    pub(super) fn handle_page(
        &mut self,
        mut list: ListCall,
        result: Result<ListOperationsResponse, ClientError>,
    ) -> io::Result<()> {
        let ListOperationsResponse { operations, next_page_token, unreachable } = match result {
            Ok(page) => page,
            Err(error) => {
                if !(list.kind == ListKind::UnreachableDevice && error.code() == Code::NotFound) {
                    self.fail_list(list.request.name.clone(), error.line());
                }
                self.finish_list(&list);
                return Ok(());
            }
        };
        self.add_found(&list.request.name, operations)?;
        for name in unreachable {
            self.add_unreachable(&list.request.name, name);
        }
        match advance(&mut list.request, next_page_token) {
            Ok(true) => {
                list.request.page_size = list.request.page_size.saturating_mul(2).min(MAX_PAGE_SIZE);
                if list.kind == ListKind::AllDevices {
                    let confirmations = MAX_CONFIRMATIONS_BEFORE_PAGE;
                    self.all_devices_list = AllDevicesList::Ready { confirmations };
                }
                self.ready_lists.push_front(list);
            }
            Ok(false) => self.finish_list(&list),
            Err(error) => {
                self.fail_list(list.request.name.clone(), error.line());
                self.finish_list(&list);
            }
        }
        Ok(())
    }

    /// Adds the pending operations of a page that the selection has. They are in the journal before they are cancelled.
    fn add_found(&mut self, list: &str, operations: Vec<Operation>) -> io::Result<()> {
        let first = self.tracker.operations.len();
        for operation in operations {
            let CommandMetadata { kind, created, duration: _, error_code: _ } =
                CommandMetadata::of(&operation);
            let time = created.as_ref().and_then(|created| created.parse().ok());
            let is_selected = self.selection.matches(kind.as_deref(), time);
            let lacks_time = self.selection.lacks_time(kind.as_deref(), time);
            if operation.done || !(is_selected || lacks_time) {
                continue;
            }
            if !self.selection.has_device_of(&operation.name) {
                let reason = "the response names an operation that is not of these devices";
                self.fail_list(list.to_owned(), format!("{reason}: {}", operation.name));
            } else if lacks_time {
                self.without_time.insert(operation.name);
            } else {
                self.tracker.add_pending(operation.name, kind, created);
            }
        }
        let found: Vec<_> = self.tracker.operations[first..].iter().map(found).collect();
        append(&mut self.journal, &found)
    }

    /// Lists a device by itself that a list over all devices could not read.
    fn add_unreachable(&mut self, list: &str, name: String) {
        let is_device =
            selection::device(&self.selection.enterprise, &name).is_ok_and(|device| device == name);
        if list != self.selection.all_devices() || !is_device {
            self.fail_list(list.to_owned(), format!("the response lacks operations of {name}"));
        } else if self.unreachable.insert(name.clone()) {
            self.open_lists += 1;
            self.delay(
                FIRST_POLL_PAUSE,
                DelayedCall::List(ListCall::of_device(name, ListKind::UnreachableDevice)),
            );
        }
    }

    /// Records the first error of a list.
    fn fail_list(&mut self, name: String, reason: String) {
        if !self.failed_lists.iter().any(|other| other.name == name) {
            self.failed_lists.push(FailedList { name, reason });
        }
    }

    /// Ends a list. After the last one, the operations that only earlier runs found are confirmed.
    fn finish_list(&mut self, list: &ListCall) {
        self.open_lists -= 1;
        if list.kind == ListKind::AllDevices {
            self.all_devices_list = AllDevicesList::Ended;
        }
        if self.open_lists == 0 {
            if let Some(example) = self.without_time.first() {
                let count = counted(self.without_time.len(), "pending operation");
                let problem = "without a readable createTime are not selected by --since or --until";
                self.display.end();
                complain(&format!("{count} {problem}, for example {example}"));
            }
            self.tracker.confirm_journaled();
            for device in 0..self.tracker.devices.len() {
                self.schedule_confirmation(device, Duration::ZERO);
            }
        }
    }
}

fn found(operation: &RecalledOperation) -> JournalEntry<'_> {
    let RecalledOperation { name, kind, create_time, device: _, is_cancel_sent: _, progress: _ } = operation;
    JournalEntry::Found { name, kind: kind.as_deref(), create_time: create_time.as_deref() }
}
