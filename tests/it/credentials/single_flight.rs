//! Concurrent callers share one fetch. A unit test holds it for a thousand.

use std::time::Duration;

use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};
use countermand_emulator::{Condition, Emulator, Endpoint};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tonic::Code;

use crate::credentials::{
    holder::Holder,
    service::{Service, asked, emulator},
};

const ENDPOINTS: [Endpoint; 5] =
    [Endpoint::Token, Endpoint::Sts, Endpoint::SubjectToken, Endpoint::Metadata, Endpoint::Iam];

/// Calls about that many operations, none of which exists. Each goes upstream and returns NOT_FOUND.
async fn many(service: &Service<'_>, holder: Holder, callers: usize) {
    let mut calls = JoinSet::new();
    for id in 0..callers {
        let mut client = OperationsClient::new(service.channel.clone());
        let name = format!("enterprises/{}/devices/d1/operations/{id}", holder.name());
        calls.spawn(async move { client.cancel_operation(CancelOperationRequest { name }).await });
    }
    for answer in calls.join_all().await {
        let status = answer.expect_err("no such operation");
        assert_eq!(status.code(), Code::NotFound, "{holder:?}: {status:?}");
    }
}

/// How many requests each endpoint has had.
fn requests(emulator: &Emulator) -> Vec<u64> {
    ENDPOINTS.iter().map(|endpoint| asked(emulator, *endpoint)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cold_callers_and_many_that_meet_a_rejection_cause_one_fetch_each() {
    let emulator = emulator(Duration::from_secs(3600)).await;
    for endpoint in ENDPOINTS {
        emulator.control().set_endpoint(endpoint, Condition::Slow(Duration::from_millis(200)));
    }
    let holders = Holder::plain();
    let service = Service::start_with(&emulator, &holders, |command, _| {
        command.env("RUST_LOG", "info");
    })
    .await;
    let users =
        |endpoint| holders.iter().filter(|holder| holder.endpoints().contains(&endpoint)).count() as u64;
    join_all(holders.iter().map(|holder| many(&service, *holder, 60))).await;
    assert_eq!(requests(&emulator), ENDPOINTS.map(users));

    emulator.control().revoke_tokens();
    join_all(holders.iter().map(|holder| many(&service, *holder, 30))).await;
    assert_eq!(requests(&emulator), ENDPOINTS.map(|endpoint| 2 * users(endpoint)));
    service.end(&[]).await;
}
