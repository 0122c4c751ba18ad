//! Lists over all devices beside other calls of the project.

use countermand::proto::longrunning::{ListOperationsRequest, WaitOperationRequest};
use countermand_emulator::{Emulator, Quota, Settings};
use serde_json::json;

use super::SECOND;
use crate::support::{process::eventually, service::Setup};

#[tokio::test]
async fn a_wait_beside_a_looping_list_sees_that_its_operation_is_done() {
    let settings = Settings { pick_up: None, quota: Quota::UNLIMITED, ..Settings::default() };
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap();
    let mut operations = Vec::new();
    for number in 0..60 {
        let device = format!("enterprises/LC01/devices/d{number:02}");
        operations
            .extend(emulator.control().issue_commands([&*device], 1, &json!({"type": "LOCK"})).unwrap());
    }
    let service = Setup::new(emulator.url(), emulator.credentials().expose())
        .quota("limit = 600\nperiod = \"60s\"\nburst = 3")
        .variable("COUNTERMAND_POLLING_MIN_INTERVAL", "100ms")
        .start()
        .await;
    let list = ListOperationsRequest { name: "enterprises/LC01/devices/-".to_owned(), ..Default::default() };
    let loops = [0, 1].map(|_| {
        let (mut client, list) = (service.client(), list.clone());
        tokio::spawn(async move {
            loop {
                client.list_operations(list.clone()).await.unwrap();
            }
        })
    });
    eventually("the lists loop", async || (emulator.control().queries().list >= 20).then_some(())).await;
    let request = WaitOperationRequest {
        name: operations[50].clone(),
        timeout: Some((12 * SECOND).try_into().unwrap()),
    };
    let mut client = service.client();
    let waiting = tokio::spawn(async move { client.wait_operation(request).await });
    eventually("the wait polls", async || (emulator.control().queries().get > 0).then_some(())).await;
    assert!(emulator.control().execute(&operations[50]));
    let operation = waiting.await.unwrap().unwrap().into_inner();
    assert!(operation.done, "{operation:?}");
    for looping in loops {
        looping.abort();
        // A list that failed is a panic.
        assert!(looping.await.unwrap_err().is_cancelled());
    }
}
