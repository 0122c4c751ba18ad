//! Concurrent callers share one fetch. A unit test holds it for a thousand.

use std::time::Duration;

use countermand::{
    emulator::{Condition, Emulator},
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::credentials::{
    holder::Holder,
    service::{Service, asked, emulator},
};

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

/// How many requests each endpoint of a credential has had.
fn requests(emulator: &Emulator, holder: Holder) -> Vec<u64> {
    holder.endpoints().into_iter().map(|endpoint| asked(emulator, endpoint)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cold_callers_and_many_that_meet_a_rejection_cause_one_fetch_each() {
    let emulator = emulator(Duration::from_secs(3600)).await;
    for holder in Holder::plain() {
        for endpoint in holder.endpoints() {
            emulator.control().set_endpoint(endpoint, Condition::Slow(Duration::from_millis(200)));
        }
        let before = requests(&emulator, holder);
        let service = Service::start_with(&emulator, &[holder], |command, _| {
            command.env("RUST_LOG", "info");
        })
        .await;
        many(&service, holder, 60).await;
        let once: Vec<_> = before.iter().map(|count| count + 1).collect();
        assert_eq!(requests(&emulator, holder), once, "{holder:?}");

        emulator.control().revoke_tokens();
        many(&service, holder, 30).await;
        let twice: Vec<_> = before.iter().map(|count| count + 2).collect();
        assert_eq!(requests(&emulator, holder), twice, "{holder:?}");
        service.end(&[]).await;
    }
}
