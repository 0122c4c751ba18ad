//! However many callers want a token, one is asked for.

use std::time::Duration;

use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};
use countermand_emulator::{Condition, Emulator};
use tokio::task::JoinSet;
use tonic::Code;

use crate::credentials::{
    holder::Holder,
    service::{Service, asked, emulator},
};

/// Calls of as many operations, none of which there is: each goes upstream, and is answered so.
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
async fn a_thousand_cold_callers_and_a_rejection_met_by_many_ask_once_each() {
    let emulator = emulator(Duration::from_secs(3600)).await;
    for holder in Holder::plain() {
        for endpoint in holder.endpoints() {
            emulator.control().set_endpoint(endpoint, Condition::Slow(Duration::from_millis(200)));
        }
        let before = requests(&emulator, holder);
        let service = Service::start_with(&emulator, &[holder], |command, room| {
            command.env("RUST_LOG", "info");
            // A thousand callers on few cores are served in more than a second, which is not the question.
            let file = room.join("c.toml");
            let config = std::fs::read_to_string(&file).unwrap().replace("\"1s\"", "\"60s\"");
            std::fs::write(file, config).unwrap();
        })
        .await;
        many(&service, holder, 1000).await;
        let once: Vec<_> = before.iter().map(|count| count + 1).collect();
        assert_eq!(requests(&emulator, holder), once, "{holder:?}");

        emulator.control().revoke_tokens();
        many(&service, holder, 200).await;
        let twice: Vec<_> = before.iter().map(|count| count + 2).collect();
        assert_eq!(requests(&emulator, holder), twice, "{holder:?}");
        service.end(&[]).await;
    }
}
