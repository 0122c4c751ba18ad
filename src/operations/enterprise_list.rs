//! ListOperations over all devices of an enterprise: a page of devices, and then the operations of each device.
//!
//! A page of the list covers at most one page of devices. Up to [`MAX_READS`] devices are read at once, and their
//! operations are returned in the order of the devices.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt, stream::FuturesOrdered};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::{
    call::Call,
    filter::Filter,
    outcome_log::{DeviceFailures, OutcomeLog},
    page_token::Position,
    reader::Reader,
    status,
};
use crate::{
    amapi::{Api, DevicesPage, ListQuery, error::Error},
    flight::Flight,
    name::{DeviceName, OperationName},
    policy::{
        Permit, Policy,
        action::{List, ListAllDevices},
    },
    proto::longrunning::{ListOperationsResponse, Operation},
};

/// The maximum number of devices that are read at the same time for one call.
const MAX_READS: usize = 16;

/// The number of operations on a page if the request has none, and the maximum.
const MAX_PAGE_SIZE: u32 = 1000;

/// The maximum encoded size of a page, in bytes. gRPC clients accept messages of 4 MiB by default.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// The encoded size of an operation's field number and length, in bytes.
const FIELD_OVERHEAD: usize = 6;

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

/// The operations of one device that a page can have.
struct DeviceRead {
    batches: Vec<Batch>,
    end: ReadEnd,
}

/// The operations of one page of the upstream that match the filter.
struct Batch {
    operations: Vec<Operation>,
    bytes: usize,
    /// The upstream's token of the following page; empty after the last one.
    next_token: String,
}

/// The reason why a read of a device ended.
enum ReadEnd {
    /// The device has no other operations.
    Finished,
    /// The batches fill a page of the list.
    Full,
    Failed(Error),
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
            let DevicesPage { devices, next_page_token } = self.devices(permit, token, &flight).await?;
            position.devices = devices.into();
            position.devices_token = Some(next_page_token).filter(|token| !token.is_empty());
        }
        // A device that the policy forbids is neither queried nor named, also not in the token.
        let first = position.devices.front().cloned();
        let permits = self.call.permit_parts(self.policy, position.devices.drain(..));
        let devices: VecDeque<Permit<List>> = permits.into();
        if devices.front().map(Permit::resource) != first.as_ref() {
            position.operations_token.clear();
        }
        let (page, rest) = self.read_devices(devices, &mut position.operations_token, &flight).await?;
        position.devices = rest;
        Ok((page, position))
    }

    /// A page of the devices.
    async fn devices(
        &self,
        permit: &Permit<ListAllDevices>,
        token: &str,
        whole: &Arc<Flight>,
    ) -> Result<DevicesPage, Error> {
        let flight = whole.part(self.end);
        let page = async {
            let result = self.amapi.devices(permit, token, &flight).await;
            self.log.log(permit.resource(), permit.action(), &result, &flight);
            result
        };
        timeout_at(self.end, page).await.unwrap_or(Err(NO_RESPONSE))
    }

    /// Reads devices in their order until the page ends. Returns the page and the devices that are not finished.
    /// `token` is that of the next page of the first device's operations.
    async fn read_devices(
        &self,
        mut devices: VecDeque<Permit<List>>,
        token: &mut String,
        flight: &Arc<Flight>,
    ) -> Result<(ListOperationsResponse, VecDeque<DeviceName>), Error> {
        let has_progress = devices.is_empty();
        let mut page = Page { response: ListOperationsResponse::default(), bytes: 0, has_progress };
        let mut reads = FuturesOrdered::new();
        let (mut started, mut finished) = (0, 0);
        while !devices.is_empty() {
            let limit = self.max_reads(finished, page.response.operations.len());
            while started - finished < limit
                && let Some(permit) = devices.get(started - finished)
            {
                let token = if started == 0 { token.clone() } else { String::new() };
                reads.push_back(self.read_device(permit.clone(), token, flight));
                started += 1;
            }
            let Some(DeviceRead { batches, end }) = reads.next().await else { break };
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
                    let unreachable = devices.front().map(|device| device.resource().to_string());
                    page.response.unreachable.extend(unreachable);
                }
                ReadEnd::Failed(error) => return Err(error),
            }
            devices.pop_front();
            token.clear();
            finished += 1;
            page.has_progress = true;
            if page.response.operations.len() >= self.max_operations() {
                break;
            }
        }
        let rest = devices.into_iter().map(|device| device.resource().clone()).collect();
        Ok((page.response, rest))
    }

    /// The maximum number of operations on the page.
    fn max_operations(&self) -> usize {
        usize::try_from(self.page_size).unwrap_or(usize::MAX)
    }

    /// The number of devices to read at once. It grows with the devices that were read, and is at most the number whose
    /// operations probably fit the page, because a read that does not fit is repeated for the next page.
    fn max_reads(&self, finished: usize, operations: usize) -> usize {
        let left = self.max_operations().saturating_sub(operations);
        let per_device = operations.div_ceil(finished.max(1)).max(1);
        (2 * finished + 1).min(left / per_device).clamp(1, MAX_READS)
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

    /// Reads a device's operations from the page with this token, until they fill a page of the list.
    async fn read_device(&self, permit: Permit<List>, token: String, whole: &Arc<Flight>) -> DeviceRead {
        let mut batches: Vec<Batch> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let mut query = ListQuery { page_token: token, page_size: self.page_size, ..ListQuery::default() };
        loop {
            let batch = match self.batch(&permit, &query, whole).await {
                Ok(batch) => batch,
                Err(error) => return DeviceRead { batches, end: ReadEnd::Failed(error) },
            };
            if batch.bytes > MAX_PAGE_BYTES && batch.operations.len() > 1 && query.page_size > 1 {
                // The operations of this page do not fit one message, so fewer are requested.
                let count = u32::try_from(batch.operations.len()).unwrap_or(MAX_PAGE_SIZE);
                query.page_size = query.page_size.min(count) / 2;
                continue;
            }
            count += batch.operations.len();
            bytes += batch.bytes;
            query.page_token.clone_from(&batch.next_token);
            batches.push(batch);
            if query.page_token.is_empty() {
                return DeviceRead { batches, end: ReadEnd::Finished };
            }
            if count >= self.max_operations() || bytes >= MAX_PAGE_BYTES {
                return DeviceRead { batches, end: ReadEnd::Full };
            }
        }
    }

    /// The operations of one page of the upstream that match the filter.
    async fn batch(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        whole: &Arc<Flight>,
    ) -> Result<Batch, Error> {
        let (flight, sent_at) = (whole.part(self.end), Instant::now());
        let filter = |operation: &_| self.filter.matches(operation);
        let log = |result: &_| self.log.log_device(permit, result, &flight, &self.failures);
        let page = self.reader.list_matching(permit, query, self.end, &flight, filter, log).await?;
        let ListOperationsResponse { operations, next_page_token, unreachable: _ } = page;
        // An unfinished state is outdated soon. Thousands of them would evict all others.
        for operation in operations.iter().filter(|operation| operation.done) {
            if let Ok(name) = OperationName::parse(&operation.name)
                && name.device() == *permit.resource()
            {
                self.reader.cache(&name, &Arc::new(operation.clone()), sent_at);
            }
        }
        let bytes = operations.iter().map(|operation| operation.encoded_len() + FIELD_OVERHEAD).sum();
        Ok(Batch { operations, bytes, next_token: next_page_token })
    }
}

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
