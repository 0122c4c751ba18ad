//! The read of one device for a page of a list over all devices.

use std::{future::pending, sync::Arc, time::Duration};

use prost::Message;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tracing::field::display;

use super::{
    enterprise_list::MAX_PAGE_BYTES,
    filter::Filter,
    outcome_log::{DeviceFailures, OutcomeLog},
    reader::Reader,
};
use crate::{
    amapi::{Api, ListQuery, error::Error},
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
    pub(super) log: &'a OutcomeLog,
    pub(super) failures: &'a DeviceFailures,
    pub(super) reader: &'a Reader<A>,
    pub(super) filter: &'a Filter,
    /// The maximum number of operations on the page, at least 1.
    pub(super) page_size: u32,
    /// The time at which the page ends.
    pub(super) end: Instant,
    /// The account of all requests for the page.
    pub(super) whole: &'a Arc<Flight>,
    /// The time without a response after which a read fails. `None`: the end of the page.
    pub(super) response_limit: Option<Duration>,
    /// Receives the number of a read whose device is slow. With a [`Self::response_limit`] only.
    pub(super) slow: UnboundedSender<usize>,
}

/// The operations of one device that a page can have.
pub(super) struct DeviceRead {
    pub(super) batches: Vec<Batch>,
    pub(super) end: ReadEnd,
}

/// The operations of one page of the upstream that match the filter.
pub(super) struct Batch {
    pub(super) operations: Vec<Operation>,
    /// The encoded size of the operations on a page, in bytes.
    pub(super) bytes: usize,
    /// The upstream's token of the following page; empty after the last one.
    pub(super) next_token: String,
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
        let (mut count, mut bytes) = (0, 0);
        let mut query =
            ListQuery { page_token: token.clone(), page_size: self.page_size, ..ListQuery::default() };
        let end = loop {
            let batch = match self.batch(number, &permit, &query).await {
                Ok(batch) => batch,
                Err(error) => break ReadEnd::Failed(error),
            };
            if batch.bytes > MAX_PAGE_BYTES && batch.operations.len() > 1 && query.page_size > 1 {
                // The operations of this page do not fit one message, so fewer are requested.
                let count = u32::try_from(batch.operations.len()).unwrap_or(self.page_size);
                query.page_size = query.page_size.min(count) / 2;
                continue;
            }
            let next = &batch.next_token;
            let is_repeated = *next == token || batches.iter().any(|batch| batch.next_token == *next);
            if is_repeated && !next.is_empty() {
                // The pages would never end.
                let error = Error::Malformed { what: "a repeated page token", http_status: 200 };
                self.failures.add(permit.resource(), &error);
                break ReadEnd::Failed(error);
            }
            count += batch.operations.len();
            bytes += batch.bytes;
            query.page_token.clone_from(next);
            batches.push(batch);
            if query.page_token.is_empty() {
                break ReadEnd::Finished;
            }
            if count >= usize::try_from(self.page_size).unwrap_or(usize::MAX) || bytes >= MAX_PAGE_BYTES {
                break ReadEnd::Full;
            }
        };
        (number, DeviceRead { batches, end })
    }

    /// The operations of one page of the upstream that match the filter.
    async fn batch(&self, number: usize, permit: &Permit<List>, query: &ListQuery) -> Result<Batch, Error> {
        let (flight, sent_at) = (self.whole.part(self.end), Instant::now());
        let filter = |operation: &_| self.filter.matches(operation);
        let log = |result: &_| self.log.log_device(permit, result, &flight, self.failures);
        let page = tokio::select! {
            biased;
            page = self.reader.list_matching(permit, query, self.end, &flight, filter, log) => page?,
            error = self.no_response(number, &flight) => {
                let result = Err(error);
                log(&result);
                result?
            }
        };
        let ListOperationsResponse { mut operations, next_page_token, unreachable: _ } = page;
        let received = operations.len();
        operations.retain(|operation| match OperationName::parse(&operation.name) {
            Ok(name) if name.device() == *permit.resource() => {
                // An unfinished state is outdated soon. Thousands of them would evict all others.
                if operation.done {
                    self.reader.cache(&name, &Arc::new(operation.clone()), sent_at);
                }
                true
            }
            // The policy may forbid the other device.
            _ => false,
        });
        let count = received - operations.len();
        if count > 0 {
            let (trace_id, device) = (flight.trace().id.map(display), permit.resource());
            tracing::warn!(trace_id, %device, count, "the page of a device has operations of other devices or with invalid names, which are not listed");
        }
        let bytes = operations.iter().map(|operation| operation.encoded_len() + FIELD_OVERHEAD).sum();
        Ok(Batch { operations, bytes, next_token: next_page_token })
    }

    /// Waits until the response to a request is missing for [`Self::response_limit`], and returns the error. Reports that
    /// the device is slow before.
    async fn no_response(&self, number: usize, flight: &Flight) -> Error {
        let Some(limit) = self.response_limit else { return pending().await };
        flight.unanswered_for(SLOW_AFTER.min(limit)).await;
        // The page receives the number until all of its reads have ended.
        let _ = self.slow.send(number);
        flight.unanswered_for(limit).await;
        Error::Unreachable { cause: format!("the device's list was not answered within {limit:?}") }
    }
}
