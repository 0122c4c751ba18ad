//! The calls of the contract that the client commands make.

use std::time::Duration;

use tonic::transport::Channel;

use super::{connect::Server, failure::Failure};
use crate::proto::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation,
    WaitOperationRequest, operations_client::OperationsClient,
};

/// The most bytes of one answer. A page that Google gave as 4 MiB of JSON is several times that as
/// `Struct`, where each number takes more than ten bytes.
const MOST_BYTES: usize = 64 * 1024 * 1024;

fn client(channel: Channel) -> OperationsClient<Channel> {
    OperationsClient::new(channel).max_decoding_message_size(MOST_BYTES)
}

impl Server {
    /// CancelOperation.
    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Failure> {
        let request = CancelOperationRequest { name: name.to_owned() };
        self.call(request, |channel, request| async { client(channel).cancel_operation(request).await }).await
    }

    /// GetOperation.
    pub(crate) async fn get(&self, name: &str) -> Result<Operation, Failure> {
        let request = GetOperationRequest { name: name.to_owned() };
        self.call(request, |channel, request| async { client(channel).get_operation(request).await }).await
    }

    /// ListOperations, one page.
    pub(crate) async fn list(
        &self,
        request: ListOperationsRequest,
    ) -> Result<ListOperationsResponse, Failure> {
        self.call(request, |channel, request| async { client(channel).list_operations(request).await }).await
    }

    /// WaitOperation: the latest state when `timeout` is over, unless it is done before.
    pub(crate) async fn wait(&self, name: &str, timeout: Duration) -> Result<Operation, Failure> {
        // No longer than an hour (the command line's limit), so neither part can be out of range.
        let timeout = prost_types::Duration {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(timeout.subsec_nanos()).unwrap_or(0),
        };
        let request = WaitOperationRequest { name: name.to_owned(), timeout: Some(timeout) };
        self.call(request, |channel, request| async { client(channel).wait_operation(request).await }).await
    }
}
