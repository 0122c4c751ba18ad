//! The drain after the end of a background task.

use std::{sync::Arc, time::Duration};

use countermand_emulator::{Emulator, Settings};
use futures_util::FutureExt;
use serde_json::Value;
use tokio::{sync::oneshot, time::timeout};
use tonic::transport::Endpoint;

use super::{App, Config, Defect};
use crate::{
    config::Flags,
    credentials::Machine,
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    server::settings::ListenAddress,
    serving::Serving,
    systemd::PassedSockets,
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_end_of_a_background_task_drains_the_process_and_is_its_error() {
    let settings = Settings { pick_up: None, latency: Duration::from_secs(1), ..Settings::default() };
    let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), settings).await.unwrap();
    let command = serde_json::json!({"type": "WIPE"});
    let wipe = emulator.control().issue_command("enterprises/LC01/devices/d1", command).unwrap();
    let name = wipe["name"].as_str().unwrap().to_owned();
    let files = tempfile::tempdir().unwrap();
    let (credentials, log) = (files.path().join("credentials.json"), files.path().join("audit.jsonl"));
    emulator.credentials().write(&credentials).unwrap();
    let flags = Flags::default()
        .with("--listen", "127.0.0.1:0")
        .with("--admin-listen", "off")
        .with("--credentials", credentials)
        .with("--upstream-url", emulator.url());
    let variables = [("COUNTERMAND_AUDIT_FILE".into(), log.clone().into())].into_iter().collect();
    let config =
        Config::load(flags, variables, Machine::Elsewhere).unwrap_or_else(|errors| panic!("{errors}"));
    let app = App::start(config, PassedSockets::default()).await.unwrap();
    let [ListenAddress::Tcp(address)] = app.addresses()[..] else { panic!("one address") };
    let (background, mut serving) = (app.background.clone(), app.serving());
    let calls = Arc::clone(&app.calls);
    let running = tokio::spawn(app.run(std::future::pending(), std::future::pending()));
    timeout(MINUTE, serving.wait_for(|serving| *serving == Serving::Ready)).await.unwrap().unwrap();

    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let cancel = tokio::spawn(async move {
        OperationsClient::new(channel).cancel_operation(CancelOperationRequest { name }).await
    });
    while calls.in_flight().is_empty() {
        tokio::task::yield_now().await;
    }
    let (trigger, triggered) = oneshot::channel::<()>();
    background.spawn("a task", triggered.map(|_| panic!("on purpose")));
    drop(trigger);

    timeout(MINUTE, cancel).await.unwrap().unwrap().expect("the call in flight is answered");
    assert_eq!(timeout(MINUTE, running).await.unwrap().unwrap(), Err(Defect { task: "a task" }));
    assert_eq!(*serving.borrow(), Serving::Draining);
    let log = std::fs::read_to_string(log).unwrap();
    let line: Value = serde_json::from_str(log.lines().next().expect("a line")).unwrap();
    assert_eq!((&line["method"], &line["code"]), (&"CancelOperation".into(), &"OK".into()));
}
