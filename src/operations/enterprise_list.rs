//! ListOperations over all devices of an enterprise: a page of devices, and then the operations of each device.
//!
//! A page of the list covers at most one page of devices. Up to [`MAX_READS`] devices are read at once, and their
//! operations are returned in the order of the devices. With partial success, a slow device is read besides, and the
//! devices behind it pass it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tonic::Code;
use tracing::field::display;

use super::{
    call::Call,
    device_queue::DeviceQueue,
    device_read::{Batch, DeviceRead, DeviceReader, ReadEnd},
    filter::Filter,
    outcome_log::{DeviceFailures, OutcomeLog},
    page_token::Position,
    reader::Reader,
    status,
};
use crate::{
    amapi::{Api, DevicesPage, error::Error},
    flight::Flight,
    name::DeviceName,
    policy::{
        Permit, Policy,
        action::{List, ListAllDevices},
    },
    proto::longrunning::ListOperationsResponse,
};

/// The maximum number of devices that are read at the same time for one call.
const MAX_READS: usize = 16;

/// The number of operations on a page if the request has none, and the maximum.
const MAX_PAGE_SIZE: u32 = 1000;

/// The maximum encoded size of a page, in bytes. gRPC clients accept messages of 4 MiB by default.
pub(super) const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// The maximum time between a request about a device and the complete response, if partial success is requested. It is
/// also at most half of the time from the call's arrival to the end of the page, so that other devices have time too.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(5);

/// A list of the operations of all devices, for one call.
pub(super) struct EnterpriseList<'a, A> {
    pub(super) policy: &'a Policy,
    pub(super) amapi: &'a A,
    pub(super) log: &'a OutcomeLog,
    pub(super) failures: DeviceFailures,
    pub(super) reader: &'a Reader<A>,
    pub(super) call: &'a Call,
    pub(super) filter: Filter,
    /// The maximum number of operations on the page, at least 1.
    pub(super) page_size: u32,
    pub(super) return_partial_success: bool,
    /// The time at which the page ends.
    pub(super) end: Instant,
}

/// The page size for the `page_size` of a request.
pub(super) fn page_size(requested: u32) -> u32 {
    if requested == 0 { MAX_PAGE_SIZE } else { requested.min(MAX_PAGE_SIZE) }
}

/// The page in progress.
struct Page {
    response: ListOperationsResponse,
    bytes: usize,
    /// Whether the position is beyond that of the request.
    has_progress: bool,
}

impl<A: Api> EnterpriseList<'_, A> {
    /// The page from `position`, and the position after it.
    ///
    /// # Errors
    ///
    /// The devices cannot be listed; a device cannot be read, and partial success is not requested; or nothing was read
    /// before the deadline, or before the quota or the credential failed.
    pub(super) async fn page(
        &self,
        permit: &Permit<ListAllDevices>,
        mut position: Position,
    ) -> Result<(ListOperationsResponse, Position), Error> {
        let flight = self.call.record.start_flight(self.end);
        let _member = self.call.record.joined(&flight, false);
        if position.devices.is_empty()
            && let Some(token) = &position.devices_token
        {
            let DevicesPage { devices, unusable: _, next_page_token } =
                self.devices(permit, token, &flight).await?;
            position.devices = devices.into();
            position.devices_token = Some(next_page_token).filter(|token| !token.is_empty());
        }
        // A device that the policy forbids is neither queried nor named, also not in the token.
        let first = position.devices.front().cloned();
        let permits = self.call.permit_parts(self.policy, position.devices.drain(..));
        if permits.first().map(Permit::resource) != first.as_ref() {
            position.operations_token.clear();
        }
        let (page, rest) = self.read_devices(permits, &mut position.operations_token, &flight).await?;
        position.devices = rest;
        Ok((page, position))
    }

    /// A page of the devices. With partial success, it lacks the devices whose names cannot be used.
    async fn devices(
        &self,
        permit: &Permit<ListAllDevices>,
        token: &str,
        whole: &Arc<Flight>,
    ) -> Result<DevicesPage, Error> {
        let flight = whole.part(self.end);
        let page = async {
            let page = self.amapi.devices(permit, token, &flight).await;
            let result = page.and_then(|page| match page.unusable {
                0 => Ok(page),
                _ if !self.return_partial_success => Err(UNUSABLE_NAME),
                count => {
                    let (trace_id, enterprise) = (flight.trace().id.map(display), permit.resource());
                    tracing::warn!(trace_id, %enterprise, count, "a page of the devices of an enterprise has names that are not of its devices, which are not listed");
                    Ok(page)
                }
            });
            self.log.log(permit.resource(), permit.action(), &result, &flight);
            result
        };
        timeout_at(self.end, page).await.unwrap_or(Err(NO_RESPONSE))
    }

    /// Reads devices until the page ends. Returns the page and the devices that are not finished. `token` is that of the
    /// next page of the first device's operations.
    async fn read_devices(
        &self,
        devices: Vec<Permit<List>>,
        token: &mut String,
        flight: &Arc<Flight>,
    ) -> Result<(ListOperationsResponse, VecDeque<DeviceName>), Error> {
        let mut queue = DeviceQueue::new(devices);
        let has_progress = queue.is_empty();
        let mut page = Page { response: ListOperationsResponse::default(), bytes: 0, has_progress };
        let (slow, mut slow_reads) = mpsc::unbounded_channel();
        let reader = self.device_reader(flight, slow);
        let mut reads = FuturesUnordered::new();
        let mut finished = 0;
        while !queue.is_empty() {
            let max = self.max_reads(finished, queue.slow(), page.response.operations.len());
            while let Some((number, permit)) = queue.start_next(max) {
                let token = if number == 0 { token.clone() } else { String::new() };
                reads.push(reader.read(number, permit, token));
            }
            // Only the first device can have a token.
            let Some(DeviceRead { batches, end }) = queue.take_first_ended(token.is_empty()) else {
                if !page.response.operations.is_empty() && queue.has_only_slow_reads() {
                    break;
                }
                tokio::select! {
                    biased;
                    Some((number, read)) = reads.next() => queue.end(number, read),
                    Some(number) = slow_reads.recv() => queue.set_slow(number),
                    else => break,
                }
                continue;
            };
            if !self.add(&mut page, batches, token) {
                break;
            }
            match end {
                ReadEnd::Finished => {}
                ReadEnd::Full => break,
                // The device was deleted.
                ReadEnd::Failed(error) if status::code_of(&error) == Code::NotFound => {}
                ReadEnd::Failed(error) if !is_of_device(&error) => {
                    if page.has_progress {
                        break;
                    }
                    return Err(error);
                }
                ReadEnd::Failed(_) if self.return_partial_success => {
                    page.response.unreachable.extend(queue.first().map(DeviceName::to_string));
                }
                ReadEnd::Failed(error) => return Err(error),
            }
            queue.finish_first();
            token.clear();
            finished += 1;
            page.has_progress = true;
            if page.response.operations.len() >= self.max_operations() {
                break;
            }
        }
        Ok((page.response, queue.into_rest(!token.is_empty())))
    }

    fn device_reader<'a>(
        &'a self,
        whole: &'a Arc<Flight>,
        slow: mpsc::UnboundedSender<usize>,
    ) -> DeviceReader<'a, A> {
        let &Self {
            log, ref failures, reader, call, ref filter, page_size, end, return_partial_success, ..
        } = self;
        let time = end.saturating_duration_since(call.arrived);
        let response_limit = return_partial_success.then(|| MAX_RESPONSE_TIME.min(time / 2));
        DeviceReader { log, failures, reader, filter, page_size, end, whole, response_limit, slow }
    }

    /// The maximum number of operations on the page.
    fn max_operations(&self) -> usize {
        usize::try_from(self.page_size).unwrap_or(usize::MAX)
    }

    /// The number of devices to read at once, in addition to slow ones. It grows with the devices that were read or are
    /// slow, and is at most the number whose operations probably fit the page, because a read that does not fit is repeated
    /// for the next page.
    fn max_reads(&self, finished: usize, slow: usize, operations: usize) -> usize {
        let left = self.max_operations().saturating_sub(operations);
        let per_device = operations.div_ceil(finished.max(1)).max(1);
        (2 * (finished + slow) + 1).min(left / per_device).clamp(1, MAX_READS)
    }

    /// Adds the batches of the first device that fit the page, and moves `token` behind them. Returns whether all fit. A
    /// batch fits an empty page.
    fn add(&self, page: &mut Page, batches: Vec<Batch>, token: &mut String) -> bool {
        for Batch { operations, bytes, next_token } in batches {
            let count = page.response.operations.len();
            let is_over =
                count + operations.len() > self.max_operations() || page.bytes + bytes > MAX_PAGE_BYTES;
            if is_over && count > 0 && !operations.is_empty() {
                return false;
            }
            page.response.operations.extend(operations);
            page.bytes += bytes;
            page.has_progress = true;
            *token = next_token;
        }
        true
    }
}

const UNUSABLE_NAME: Error =
    Error::Malformed { what: "a page of devices with a name that is not of such a device", http_status: 200 };

const NO_RESPONSE: Error = Error::DeadlineExceeded { while_doing: "before the upstream answered" };

/// Whether an error is that of one device. Otherwise the reads of other devices would have it too.
fn is_of_device(error: &Error) -> bool {
    let is_of_call = matches!(
        error,
        Error::NoCredential
            | Error::CredentialRejected(_)
            | Error::CredentialUnavailable { .. }
            | Error::DeadlineExceeded { .. }
    );
    // A quota is of the whole project.
    !is_of_call && status::code_of(error) != Code::ResourceExhausted
}
