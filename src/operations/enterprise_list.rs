//! ListOperations over all devices of an enterprise: a page of devices, and then the operations of each device.
//!
//! A page of the list covers at most one page of devices. Up to [`MAX_READS`] devices are read at once, and their
//! operations are returned in the order of the devices. With partial success, a slow device is read besides, and the
//! devices behind it pass it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tonic::Code;

use super::{
    call::Call,
    device_queue::DeviceQueue,
    device_read::{Batch, DeviceRead, DeviceReader, ReadEnd},
    filter::Filter,
    outcome_log::DeviceFailures,
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
pub(super) const MAX_PAGE_SIZE: u16 = 1000;

/// The maximum encoded size of a page, in bytes. gRPC clients accept messages of 4 MiB by default.
pub(super) const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// The maximum time between a request about a device and the complete response. A request holds a slot that other lists
/// need. With partial success, it is also at most half of the time from the call's arrival to the end of the page, so that
/// other devices have time too.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(5);

/// A list of the operations of all devices, for one call.
pub(super) struct EnterpriseList<'a, A> {
    pub(super) policy: &'a Policy,
    pub(super) reader: &'a Reader<A>,
    pub(super) call: &'a Call,
    pub(super) filter: Filter,
    /// The maximum number of operations on the page, at least 1.
    pub(super) page_size: u16,
    pub(super) return_partial_success: bool,
    /// The time at which the page ends.
    pub(super) end: Instant,
}

/// The page size for the `page_size` of a request.
pub(super) fn page_size(requested: u32) -> u16 {
    match requested {
        0 => MAX_PAGE_SIZE,
        _ => u16::try_from(requested).unwrap_or(MAX_PAGE_SIZE).min(MAX_PAGE_SIZE),
    }
}

/// The page in progress.
#[derive(Default)]
struct Page {
    response: ListOperationsResponse,
    bytes: usize,
    /// Whether it is the first page. It does not wait for slow devices, so that the caller has operations soon. The others
    /// do, because a read that a page drops is repeated for the next page.
    is_first: bool,
    /// Whether the position is beyond that of the request.
    has_progress: bool,
    /// The time that the longest request for the page took.
    longest_request: Duration,
    failures: DeviceFailures,
}

impl<A: Api> EnterpriseList<'_, A> {
    /// The page from `position`, and the position after it.
    ///
    /// # Errors
    ///
    /// The caller disconnected. Or nothing was read before an error: of the list of the devices, of the deadline, the quota
    /// or the credential, or without partial success of a device.
    pub(super) async fn page(
        &self,
        permit: &Permit<ListAllDevices>,
        mut position: Position,
    ) -> Result<(ListOperationsResponse, Position), Error> {
        let flight = self.call.record.start_flight(self.end);
        let _member = self.call.record.joined(&flight, false);
        let mut page = Page { is_first: position == Position::start(), ..Page::default() };
        let result = tokio::select! {
            biased;
            () = flight.abandoned() => Err(Error::Abandoned),
            result = self.read(permit, &mut page, &mut position, &flight) => result,
        };
        page.failures.log(permit.resource(), flight.trace());
        result.map(|()| (page.response, position))
    }

    /// Reads the page of the devices, if the position is at its start, and then its devices.
    async fn read(
        &self,
        permit: &Permit<ListAllDevices>,
        page: &mut Page,
        position: &mut Position,
        flight: &Arc<Flight>,
    ) -> Result<(), Error> {
        if position.devices.is_empty()
            && let Some(token) = &position.devices_token
        {
            let (started, part) = (Instant::now(), flight.part(self.end));
            let devices = self.reader.devices(permit, token, self.return_partial_success, self.end, &part);
            let DevicesPage { devices, unusable: _, next_page_token } = devices.await?;
            page.longest_request = started.elapsed();
            page.has_progress = true;
            position.devices = devices.into();
            position.devices_token = Some(next_page_token).filter(|token| !token.is_empty());
        }
        // A device that the policy forbids is neither queried nor named, also not in the token.
        let first = position.devices.front().cloned();
        let permits = self.call.permit_parts(self.policy, position.devices.drain(..));
        if permits.first().map(Permit::resource) != first.as_ref() {
            position.operations_token.clear();
        }
        let token = &mut position.operations_token;
        let rest = self.read_devices(permits, page, token, flight).await.inspect_err(|error| {
            // `failures` has those of a device.
            if !is_of_device(error) {
                self.reader.log_failed_list(permit, error, flight);
            }
        });
        position.devices = rest?;
        Ok(())
    }

    /// Reads devices until the page ends. Returns the devices that are not finished. `token` is that of the next page of
    /// the first device's operations.
    async fn read_devices(
        &self,
        devices: Vec<Permit<List>>,
        page: &mut Page,
        token: &mut String,
        flight: &Arc<Flight>,
    ) -> Result<VecDeque<DeviceName>, Error> {
        let mut queue = DeviceQueue::new(devices);
        page.has_progress |= queue.is_empty();
        let (slow, mut slow_reads) = mpsc::unbounded_channel();
        let reader = self.device_reader(flight, slow);
        let mut reads = FuturesUnordered::new();
        let mut finished = 0;
        while !queue.is_empty() {
            let max = self.max_reads(page, finished, queue.slow());
            while let Some((number, permit)) = queue.start_next(max) {
                let token = if number == 0 { token.clone() } else { String::new() };
                reads.push(reader.read(number, permit, token));
            }
            // Only the first device can have a token.
            let Some(DeviceRead { batches, end, .. }) = queue.take_first_ended(token.is_empty()) else {
                let may_end = page.is_first && !page.response.operations.is_empty();
                if reads.is_empty() || may_end && queue.has_only_slow_reads() {
                    break;
                }
                tokio::select! {
                    biased;
                    Some((number, read)) = reads.next() => {
                        page.longest_request = page.longest_request.max(read.longest_request);
                        queue.end(number, read);
                    }
                    Some(number) = slow_reads.recv() => queue.set_slow(number),
                    else => break,
                }
                continue;
            };
            if !self.add(page, batches, token) {
                break;
            }
            match end {
                ReadEnd::Finished => {}
                ReadEnd::Full => break,
                // The device was deleted.
                ReadEnd::Failed(error) if status::code_of(&error) == Code::NotFound => {}
                ReadEnd::Failed(error) => {
                    let failed = queue.first().filter(|_| is_of_device(&error));
                    let is_unreachable = failed.is_some() && self.return_partial_success;
                    if page.has_progress && !is_unreachable {
                        // The next page fails. Its retries do not repeat the reads of this page.
                        break;
                    }
                    failed.into_iter().for_each(|device| page.failures.add(device, &error));
                    if !is_unreachable {
                        return Err(error);
                    }
                    page.response.unreachable.extend(failed.map(DeviceName::to_string));
                }
            }
            queue.finish_first();
            token.clear();
            finished += 1;
            page.has_progress = true;
            if page.response.operations.len() >= usize::from(self.page_size) {
                break;
            }
        }
        Ok(queue.into_rest(!token.is_empty()))
    }

    fn device_reader<'a>(
        &'a self,
        whole: &'a Arc<Flight>,
        slow: mpsc::UnboundedSender<usize>,
    ) -> DeviceReader<'a, A> {
        let &Self { reader, call, ref filter, page_size, end, return_partial_success, policy: _ } = self;
        let (slow, response_limit) = match return_partial_success {
            true => (Some(slow), MAX_RESPONSE_TIME.min(end.saturating_duration_since(call.arrived) / 2)),
            false => (None, MAX_RESPONSE_TIME),
        };
        DeviceReader { reader, filter, page_size, end, whole, response_limit, slow }
    }

    /// The number of devices to read at once, in addition to slow ones. It grows with the devices that were read or are
    /// slow. It is at most the number whose operations probably fit the page, because a read that does not fit is repeated
    /// for the next page. It is zero if another request would probably not end before the page does.
    fn max_reads(&self, page: &Page, finished: usize, slow: usize) -> usize {
        if self.end.saturating_duration_since(Instant::now()) < page.longest_request {
            return 0;
        }
        let fitting = |max: usize, used: usize| {
            let left = max.saturating_sub(used);
            (left * finished).checked_div(used).unwrap_or(left)
        };
        let operations = fitting(usize::from(self.page_size), page.response.operations.len());
        (2 * (finished + slow) + 1).min(MAX_READS).min(operations).min(fitting(MAX_PAGE_BYTES, page.bytes))
    }

    /// Adds the batches of the first device that fit the page, and moves `token` behind them. Returns whether all fit. A
    /// batch fits an empty page.
    fn add(&self, page: &mut Page, batches: Vec<Batch>, token: &mut String) -> bool {
        for Batch { operations, bytes, next_token, .. } in batches {
            let count = page.response.operations.len();
            let is_over =
                count + operations.len() > usize::from(self.page_size) || page.bytes + bytes > MAX_PAGE_BYTES;
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

/// Whether an error is that of one device. Otherwise the reads of other devices would have it too.
fn is_of_device(error: &Error) -> bool {
    let is_of_call = matches!(
        error,
        Error::NoCredential
            | Error::CredentialRejected(_)
            | Error::CredentialUnavailable { .. }
            | Error::DeadlineExceeded { .. }
            | Error::Abandoned
    );
    // A quota is of the whole project.
    !is_of_call && status::code_of(error) != Code::ResourceExhausted
}

#[cfg(test)]
mod tests;
