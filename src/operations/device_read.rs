//! The read of one device for a page of a list over all devices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use prost::Message;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tracing::field::display;

use super::{
    enterprise_list::{MAX_PAGE_BYTES, MAX_PAGE_SIZE},
    filter::Filter,
    reader::Reader,
};
use crate::{
    amapi::{Api, Json, ListQuery, MAX_UPSTREAM_TOKEN, error::Error},
    flight::Flight,
    name::OperationName,
    policy::{Permit, action::List},
    proto::longrunning::{ListOperationsResponse, Operation},
};

/// The time without a response after which a device is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// The encoded size of an operation's field number and length, in bytes.
const FIELD_OVERHEAD: usize = 6;

/// Reads devices for one page of a list.
pub(super) struct DeviceReader<'a, A> {
    pub(super) reader: &'a Reader<A>,
    pub(super) filter: &'a Filter,
    /// The maximum number of operations on the page, at least 1.
    pub(super) page_size: u16,
    /// The time at which the page ends.
    pub(super) end: Instant,
    /// The account of all requests for the page.
    pub(super) whole: &'a Arc<Flight>,
    /// The time without a response after which a read fails.
    pub(super) response_limit: Duration,
    /// Receives the number of a read whose device is slow. `None` if a slow device cannot be passed.
    pub(super) slow: Option<UnboundedSender<usize>>,
}

/// The operations of one device that a page can have.
pub(super) struct DeviceRead {
    pub(super) batches: Vec<Batch>,
    pub(super) end: ReadEnd,
    /// The time that the longest request took.
    pub(super) longest_request: Duration,
}

/// The operations of one page of the upstream that match the filter.
pub(super) struct Batch {
    pub(super) operations: Vec<Operation>,
    /// The encoded size of the operations on a page, in bytes.
    pub(super) bytes: usize,
    /// The upstream's token of the following page; empty after the last one.
    pub(super) next_token: String,
    /// The number of operations on the page of the upstream.
    received: u32,
    /// The number of those that match the filter.
    matching: u32,
}

/// The reason why a read of a device ended.
pub(super) enum ReadEnd {
    /// The device has no other operations.
    Finished,
    /// The batches fill a page of the list.
    Full,
    Failed(Error),
}

impl<A: Api> DeviceReader<'_, A> {
    /// Reads a device's operations from the page with this token, until they fill a page of the list. Returns the read and
    /// its `number`.
    pub(super) async fn read(
        &self,
        number: usize,
        permit: Permit<List>,
        token: String,
    ) -> (usize, DeviceRead) {
        let mut batches: Vec<Batch> = Vec::new();
        let (mut count, mut bytes, mut longest_request) = (0, 0, Duration::ZERO);
        // With a filter, few of the operations may be for the page.
        let page_size = if self.filter.is_empty() { self.page_size } else { MAX_PAGE_SIZE };
        let mut query =
            ListQuery { page_token: token.clone(), page_size: u32::from(page_size), ..ListQuery::default() };
        let end = loop {
            let started = Instant::now();
            if self.end.saturating_duration_since(started) < longest_request {
                break ReadEnd::Failed(Error::NO_RESPONSE);
            }
            let batch = match self.batch(number, &permit, &query).await {
                Ok(batch) => batch,
                Err(Error::BodyTooLong { .. }) if query.page_size > 1 => {
                    query.page_size /= 2;
                    continue;
                }
                Err(error) => break ReadEnd::Failed(error),
            };
            longest_request = longest_request.max(started.elapsed());
            if let Some(page_size) = self.smaller_page(query.page_size, &batch) {
                query.page_size = page_size;
                continue;
            }
            let next = &batch.next_token;
            let is_repeated = *next == token || batches.iter().any(|batch| batch.next_token == *next);
            if is_repeated && !next.is_empty() {
                // The pages would never end.
                break ReadEnd::Failed(malformed("a repeated page token"));
            }
            count += batch.operations.len();
            bytes += batch.bytes;
            query.page_token.clone_from(next);
            batches.push(batch);
            if query.page_token.is_empty() {
                break ReadEnd::Finished;
            }
            if count >= usize::from(self.page_size) || bytes >= MAX_PAGE_BYTES {
                break ReadEnd::Full;
            }
        };
        (number, DeviceRead { batches, end, longest_request })
    }

    /// The `pageSize` of the upstream whose operations probably fit a page of the list, if those of `batch`, which was
    /// requested with the size `requested`, do not fit. A page token cannot stand within a page of the upstream.
    fn smaller_page(&self, requested: u32, batch: &Batch) -> Option<u32> {
        let (max, sent) = (u32::from(self.page_size), requested.min(batch.received));
        if batch.matching > max && requested > max {
            return Some((sent * max / batch.matching).max(max));
        }
        let is_divisible = sent > 1 && batch.operations.len() > 1;
        (batch.bytes > MAX_PAGE_BYTES && is_divisible).then_some(sent / 2)
    }

    /// The operations of one page of the upstream that match the filter.
    async fn batch(&self, number: usize, permit: &Permit<List>, query: &ListQuery) -> Result<Batch, Error> {
        let part = self.whole.part(self.end);
        let (received, matching) = (AtomicU32::new(0), AtomicU32::new(0));
        let filter = |operation: &Json| {
            let matches = self.filter.matches(operation);
            received.fetch_add(1, Relaxed);
            matching.fetch_add(u32::from(matches), Relaxed);
            matches
        };
        let no_response = self.no_response(number, &part);
        let page = self.reader.list_matching(permit, query, self.end, &part, filter, no_response).await?;
        let ListOperationsResponse { mut operations, next_page_token, unreachable: _ } = page;
        if next_page_token.len() > MAX_UPSTREAM_TOKEN {
            return Err(malformed("a page token of more than 4 KiB"));
        }
        let count = operations.len();
        // The policy may forbid the device of another operation.
        operations.retain(|operation| {
            OperationName::parse(&operation.name).is_ok_and(|name| name.device() == *permit.resource())
        });
        let count = count - operations.len();
        if count > 0 {
            let (trace_id, device) = (part.trace().id.map(display), permit.resource());
            tracing::warn!(trace_id, %device, count, "the page of a device has operations of other devices or with invalid names, which are not listed");
        }
        let bytes = operations.iter().map(|operation| operation.encoded_len() + FIELD_OVERHEAD).sum();
        let (received, matching) = (received.into_inner(), matching.into_inner());
        Ok(Batch { operations, bytes, next_token: next_page_token, received, matching })
    }

    /// Waits until the response to a request is missing for [`Self::response_limit`], and returns the error. Reports that
    /// the device is slow before.
    async fn no_response(&self, number: usize, part: &Flight) -> Error {
        let limit = self.response_limit;
        if let Some(slow) = &self.slow {
            part.unanswered_for(SLOW_AFTER.min(limit)).await;
            // The page receives the number until all of its reads have ended.
            let _ = slow.send(number);
        }
        part.unanswered_for(limit).await;
        part.exchange_ended();
        Error::Unreachable { cause: format!("the device's list was not answered within {limit:?}") }
    }
}

fn malformed(what: &'static str) -> Error {
    Error::Malformed { what, http_status: 200 }
}
