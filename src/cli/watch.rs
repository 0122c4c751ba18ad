//! `countermand list --watch`: shows pending operations as they come and go.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Code;

use super::{
    client::{ServerClient, advance},
    error::ClientError,
    exit::Exit,
    operation::{self, CommandMetadata, OperationJson, OperationState, device_of, to_json},
    output::{self, Format},
    retry,
};
use crate::proto::longrunning::{ListOperationsRequest, ListOperationsResponse, Operation};

/// A watch of the pending operations of a list.
pub(super) struct Watch<'a> {
    server: &'a ServerClient,
    request: ListOperationsRequest,
    format: Format,
    /// Whether the server has answered a call.
    has_response: bool,
    /// The pending operations, by device.
    pending: BTreeMap<String, HashSet<String>>,
    /// The devices that could not be read the last time.
    unreachable: BTreeSet<String>,
}

/// A change of a pending operation or of a device.
#[derive(Serialize)]
struct WatchEvent<'a> {
    time: String,
    event: &'static str,
    /// The name of the operation or of the device.
    name: &'a str,
    /// Absent if the event is one of a device, or if the operation is not listed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<OperationJson<'a>>,
    /// The error of a device that cannot be read, if it is known: the list over all devices does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The reason why a watch ended.
enum WatchEnd {
    Error(ClientError),
    /// The output cannot be written.
    Output(Exit),
}

impl From<ClientError> for WatchEnd {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl<'a> Watch<'a> {
    /// `server` must have a timeout per call.
    pub(super) fn new(server: &'a ServerClient, request: ListOperationsRequest, format: Format) -> Self {
        let (pending, unreachable) = (BTreeMap::new(), BTreeSet::new());
        Self { server, request, format, has_response: false, pending, unreachable }
    }

    /// Lists every `interval`, and later if the server asks for a pause. Never ends by itself.
    ///
    /// # Errors
    ///
    /// The list has an error that is not transient, or the connection breaks before the first response: the peer is
    /// probably no gRPC server.
    pub(super) async fn run(mut self, interval: Duration) -> Result<Exit, ClientError> {
        loop {
            let started = Instant::now();
            match self.poll().await {
                Ok(()) => {}
                Err(WatchEnd::Error(error)) => return Err(error),
                Err(WatchEnd::Output(exit)) => return Ok(exit),
            }
            sleep_until(started + interval).await;
        }
    }

    /// Reads the list once, and prints the changes.
    async fn poll(&mut self) -> Result<(), WatchEnd> {
        let (mut seen, mut unreachable) = (HashSet::new(), BTreeSet::new());
        let mut request = self.request.clone();
        loop {
            let page = self.list(&request).await?;
            for operation in &page.operations {
                self.see(operation)?;
                seen.insert(operation.name.clone());
            }
            for device in page.unreachable {
                self.miss(&device, None)?;
                unreachable.insert(device);
            }
            if !advance(&mut request, page.next_page_token)? {
                break;
            }
        }
        let gone: Vec<_> = self
            .pending
            .iter()
            .filter(|(device, names)| !unreachable.contains(*device) && !names.is_subset(&seen))
            .map(|(device, names)| (device.clone(), names.difference(&seen).cloned().collect()))
            .collect();
        for (device, names) in gone {
            if !self.finish(&device, names).await? {
                unreachable.insert(device);
            }
        }
        self.pending.retain(|_, names| !names.is_empty());
        for device in self.unreachable.difference(&unreachable) {
            self.print_device("reachable", "listed again", device, None)?;
        }
        self.unreachable = unreachable;
        Ok(())
    }

    /// Reads a page of the list.
    async fn list(&mut self, request: &ListOperationsRequest) -> Result<ListOperationsResponse, ClientError> {
        let (server, mut has_response) = (self.server, self.has_response);
        let is_retried = |error: &ClientError| {
            let is_broken = error.exit() == Exit::Unreachable;
            // The timer of this client has the same code as that of the server.
            has_response |= !is_broken && error.code() != Code::DeadlineExceeded;
            error.is_transient_or_quota() && (has_response || !is_broken)
        };
        let page = retried(async || server.list(request.clone()).await, is_retried).await?;
        self.has_response = true;
        Ok(page)
    }

    /// Prints an operation if its state is new.
    fn see(&mut self, operation: &Operation) -> Result<(), WatchEnd> {
        let names = self.pending.entry(device_of(&operation.name).to_owned()).or_default();
        if operation.done {
            let was_pending = names.remove(&operation.name);
            return if was_pending {
                self.print("finished", &operation.name, Some(operation))
            } else {
                Ok(())
            };
        }
        match names.insert(operation.name.clone()) {
            true => self.print("appeared", &operation.name, Some(operation)),
            false => Ok(()),
        }
    }

    /// Prints the states of operations that the list does not have any more. One list of the device shows them. Returns
    /// whether the device could be read; otherwise its operations stay pending.
    async fn finish(&mut self, device: &str, names: Vec<String>) -> Result<bool, WatchEnd> {
        let server = self.server;
        // Neither an exhausted quota nor a lost connection is an error of the device.
        let is_retried = |error: &ClientError| {
            error.code() == Code::ResourceExhausted || error.exit() == Exit::Unreachable
        };
        let operations = match retried(async || server.list_device(device).await, is_retried).await {
            Ok(operations) => operations,
            Err(error) if error.code() == Code::NotFound => Vec::new(),
            Err(error) => return self.miss(device, Some(&error)).map(|()| false),
        };
        let operations: BTreeMap<_, _> =
            operations.iter().map(|operation| (operation.name.as_str(), operation)).collect();
        for name in names {
            match operations.get(name.as_str()) {
                Some(operation) => self.see(operation)?,
                None => {
                    if let Some(names) = self.pending.get_mut(device) {
                        names.remove(&name);
                    }
                    self.print("gone", &name, None)?;
                }
            }
        }
        Ok(true)
    }

    /// Prints a device that cannot be read, if the last poll could read it.
    fn miss(&mut self, device: &str, error: Option<&ClientError>) -> Result<(), WatchEnd> {
        match self.unreachable.insert(device.to_owned()) {
            true => self.print_device("unreachable", "not listed", device, error),
            false => Ok(()),
        }
    }

    /// Prints a change of a device: an event in JSON, otherwise a line with `text` on standard error.
    fn print_device(
        &self,
        event: &'static str,
        text: &str,
        device: &str,
        error: Option<&ClientError>,
    ) -> Result<(), WatchEnd> {
        let reason = error.map(ClientError::line);
        match self.format {
            Format::Json => {
                let (time, operation) = (now(), None);
                written(&to_json(&WatchEvent { time, event, name: device, operation, reason }))
            }
            Format::Text => {
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                output::complain(&format!("{text}: {device}{reason}"));
                Ok(())
            }
        }
    }

    /// Prints a change of an operation.
    fn print(&self, event: &'static str, name: &str, operation: Option<&Operation>) -> Result<(), WatchEnd> {
        let time = now();
        let line = match self.format {
            Format::Json => {
                let operation = operation.map(operation::json_form);
                to_json(&WatchEvent { time, event, name, operation, reason: None })
            }
            Format::Text => {
                let metadata = operation.map(CommandMetadata::of).unwrap_or_default();
                let kind = metadata.kind.unwrap_or_else(|| "-".to_owned());
                let state = operation.map_or("-", |operation| OperationState::of(operation).word());
                format!("{time}  {event:<8}  {state:<9}  {kind}  {name}")
            }
        };
        written(&line)
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Prints a line to standard output.
fn written(line: &str) -> Result<(), WatchEnd> {
    match output::to_stdout(line) {
        Exit::Ok => Ok(()),
        exit => Err(WatchEnd::Output(exit)),
    }
}

/// Repeats a call until it succeeds or has an error for which `is_retried` is false. Reports the first error of a series.
async fn retried<T>(
    mut call: impl AsyncFnMut() -> Result<T, ClientError>,
    mut is_retried: impl FnMut(&ClientError) -> bool,
) -> Result<T, ClientError> {
    let mut retries = 0;
    loop {
        match call().await {
            Err(error) if is_retried(&error) => {
                if retries == 0 {
                    error.complain();
                }
                sleep(retry::pause(&error, retries)).await;
                retries += 1;
            }
            other => return other,
        }
    }
}
