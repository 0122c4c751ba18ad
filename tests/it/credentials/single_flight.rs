//! Concurrent callers share one fetch. A unit test checks a thousand callers.

use std::time::Duration;

use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};
use countermand_emulator::{Condition, Emulator, Endpoint};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tonic::Code;

use crate::credentials::{
    service::{Service, emulator, request_count},
    test_credential::TestCredential,
};

const ENDPOINTS: [Endpoint; 5] =
    [Endpoint::Token, Endpoint::Sts, Endpoint::SubjectToken, Endpoint::Metadata, Endpoint::Iam];

/// Cancels `callers` operations that do not exist. Each call is sent upstream and returns NOT_FOUND.
async fn cancel_many(service: &Service<'_>, credential: TestCredential, callers: usize) {
    let mut calls = JoinSet::new();
    for id in 0..callers {
        let mut client = OperationsClient::new(service.channel.clone());
        let name = format!("enterprises/{}/devices/d1/operations/{id}", credential.name());
        calls.spawn(async move { client.cancel_operation(CancelOperationRequest { name }).await });
    }
    for response in calls.join_all().await {
        let status = response.expect_err("no such operation");
        assert_eq!(status.code(), Code::NotFound, "{credential:?}: {status:?}");
    }
}

/// The number of requests to each endpoint.
fn requests(emulator: &Emulator) -> Vec<u64> {
    ENDPOINTS.iter().map(|endpoint| request_count(emulator, *endpoint)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_share_one_fetch_at_start_and_after_a_rejection() {
    let emulator = emulator(Duration::from_secs(3600)).await;
    for endpoint in ENDPOINTS {
        emulator.control().set_endpoint(endpoint, Condition::Slow(Duration::from_millis(200)));
    }
    let credentials = TestCredential::plain();
    let service = Service::start_with(&emulator, &credentials, |command, _| {
        // The 420 calls take longer than five seconds on a busy machine.
        command.env("RUST_LOG", "info").env("COUNTERMAND_UPSTREAM_TIMEOUT", "1m");
    })
    .await;
    let users = |endpoint| {
        credentials.iter().filter(|credential| credential.endpoints().contains(&endpoint)).count() as u64
    };
    join_all(credentials.iter().map(|credential| cancel_many(&service, *credential, 60))).await;
    assert_eq!(requests(&emulator), ENDPOINTS.map(users));

    emulator.control().revoke_tokens();
    join_all(credentials.iter().map(|credential| cancel_many(&service, *credential, 30))).await;
    assert_eq!(requests(&emulator), ENDPOINTS.map(|endpoint| 2 * users(endpoint)));
    service.end(&[]).await;
}
