//! Errors that last: how long a call is repeated, and the result of one that is given up.

use std::{
    fs,
    time::{Duration, Instant},
};

use countermand_emulator::{DeviceFault, Fault, Quota};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    recall::{
        command::{has_events, recall, run, wipe_devices, write_journal},
        fixture::{device, start},
    },
    support::{
        process::{Process, eventually},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
};

/// A page with one WIPE of the first device.
fn page(id: &str) -> Reply {
    let metadata = json!({"type": "WIPE", "createTime": "2026-01-01T00:00:00Z"});
    let name = format!("{}/operations/{id}", device(0));
    Reply::json(200, &json!({"operations": [{"name": name, "metadata": metadata, "done": false}]}))
}

fn unavailable() -> Reply {
    Reply::plain_error(503, "UNAVAILABLE", "backend")
}

#[tokio::test]
async fn a_device_that_cannot_be_read_is_named_after_the_time() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 5, 1);
    emulator.control().set_device_fault(&device(2), Some(DeviceFault::Failing(Fault::Unavailable)));
    let dry_run = run(&mut recall(service.address, &["--dry-run", "--retry-timeout", "2s"])).await;
    assert_eq!(dry_run.code, Some(1), "{dry_run:?}");
    assert!(dry_run.stdout.starts_with("4 pending operations"), "{dry_run:?}");
    let error = format!("not listed: {}: UNAVAILABLE: ", device(2));
    assert!(dry_run.stdout.contains(&format!("\n{error}")), "{dry_run:?}");

    let started = Instant::now();
    let ended = run(&mut recall(service.address, &["--yes", "--retry-timeout", "2s"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(ended.stdout.contains("cancelled       4\n") && ended.stdout.contains(&error), "{ended:?}");
    // The first problem of a run is shown at once.
    let progress = format!("; retrying 1 call: {}: UNAVAILABLE: ", device(2));
    assert!(ended.stderr.contains(&progress), "{ended:?}");

    // The other device of the command has nothing to cancel.
    let devices = ["--device", "d0002", "--device", "d0003", "--retry-timeout", "1s", "--dry-run"];
    let ended = run(&mut recall(service.address, &devices)).await;
    assert_eq!((ended.code, ended.stdout.contains(&error)), (Some(1), true), "{ended:?}");
}

#[tokio::test]
async fn a_list_over_all_devices_that_always_fails_is_an_error() {
    let upstream = Upstream::start().await;
    upstream.always_answers(unavailable());
    let service = Setup::of(&upstream).start().await;
    for stage in ["--yes", "--dry-run"] {
        let ended = run(&mut recall(service.address, &[stage, "--retry-timeout", "1s"])).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let error = "\nnot listed: enterprises/LC01/devices/-: UNAVAILABLE: ";
        assert!(ended.stdout.contains(error), "{ended:?}");
    }
}

/// Recalls one operation from an upstream that is unavailable after these answers. Asserts its outcome.
async fn assert_outcome_if_unavailable_after<const N: usize>(answers: [Reply; N], outcome: &str) {
    let upstream = Upstream::start().await;
    upstream.answers(answers);
    upstream.always_answers(unavailable());
    let service = Setup::of(&upstream).start().await;
    let arguments = ["--yes", "--device", "d0000", "--retry-timeout", "1s", "--output", "json"];
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let operation = &report["operations"][0];
    assert_eq!(operation["outcome"], outcome);
    assert!(operation["reason"].as_str().unwrap().starts_with("UNAVAILABLE: backend"), "{operation}");
}

#[tokio::test]
async fn a_cancel_that_always_fails_is_a_failure() {
    assert_outcome_if_unavailable_after([page("1")], "FAILED").await;
}

#[tokio::test]
async fn an_outcome_that_cannot_be_read_is_unknown() {
    assert_outcome_if_unavailable_after([page("1"), Reply::ok()], "UNKNOWN").await;
}

#[tokio::test]
async fn a_requested_delay_of_one_device_does_not_delay_the_others() {
    let upstream = Upstream::start().await;
    upstream.answers([unavailable().header("retry-after", "3600")]);
    upstream.always_answers(Reply::json(200, &json!({})));
    let service = Setup::of(&upstream).start().await;
    // Four lists are in flight at once.
    let devices = (0..12).flat_map(|number| ["--device".to_owned(), format!("d{number:04}")]);
    let process = Process::start(recall(service.address, &["--yes"]).args(devices));
    upstream.wait_for_requests(12).await;
    drop(process);
}

#[tokio::test]
async fn outcomes_are_read_while_a_page_of_the_list_over_all_devices_waits_for_a_retry() {
    let upstream = Upstream::start().await;
    let name = format!("{}/operations/1", device(0));
    let cancelled = json!({
        "name": name, "metadata": {"type": "WIPE"}, "done": true, "error": {"code": 1, "message": ""}
    });
    // The first request is about the devices of the enterprise.
    upstream.answers([
        unavailable().header("retry-after", "3600"),
        Reply::json(200, &json!({"operations": [cancelled]})),
    ]);
    let service = Setup::of(&upstream).start().await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let time = "2026-01-01T00:00:00Z";
    let found = json!({"event": "found", "name": name, "type": "WIPE", "create_time": time});
    let accepted = json!({"event": "cancel_accepted", "name": name, "time": time});
    write_journal(&path, time, &[found, accepted]);
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let process = Process::start(&mut recall(service.address, &arguments));
    has_events(&path, "outcome", 1).await;
    assert_eq!(upstream.requests().len(), 2);
    drop(process);
}

#[tokio::test]
async fn few_calls_are_sent_while_the_quota_is_exhausted() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 40, 2);
    emulator.control().set_latency(Duration::from_millis(20));
    let process = Process::start(&mut recall(service.address, &["--yes", "--retry-timeout", "1s"]));
    eventually("a cancel", async || (emulator.control().queries().cancel >= 5).then_some(())).await;
    emulator.control().set_quota(Quota { queries: Some(0), window: Duration::from_secs(100) });
    process.stderr.has("RESOURCE_EXHAUSTED").await;
    let queries = || {
        let queries = emulator.control().queries();
        queries.cancel + queries.list
    };
    let before = queries();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // One cancel and one list after each pause, of 1 s, 1.5 s, 2.25 s and so on.
    let sent = queries() - before;
    assert!((1..=10).contains(&sent), "{sent}");
    emulator.control().set_quota(Quota::UNLIMITED);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_port_that_is_not_one_of_a_server_of_grpc_is_69() {
    let (_emulator, service) = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = listener.local_addr().unwrap();
    // Drops each connection.
    let accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let with_journal = ["--yes", "--report", path.to_str().unwrap()];
    for (address, arguments) in
        [(service.admin, &with_journal[..]), (service.admin, &["--dry-run"]), (closing, &with_journal)]
    {
        let ended = run(&mut recall(address, arguments)).await;
        assert!(!path.exists(), "{ended:?}");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(69), ""), "{ended:?}");
        assert!(ended.stderr.starts_with("countermand: UNAVAILABLE: "), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    accepting.abort();
}

#[tokio::test]
async fn a_response_about_other_devices_is_a_failed_list() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let name = "enterprises/LC01/devices/d0009/operations/1";
    let operation = json!({"name": name, "metadata": {"type": "WIPE"}, "done": false});
    let other = Reply::json(200, &json!({"operations": [operation]}));
    let unreachable = Reply::json(200, &json!({"operations": [], "unreachable": [device(0)]}));
    for (reply, error) in [(other, name.to_owned()), (unreachable, device(0))] {
        upstream.answers([reply]);
        let ended = run(&mut recall(service.address, &["--yes", "--device", "d0000"])).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""), "{ended:?}");
        let line = ended.stdout.lines().last().unwrap();
        assert!(line.starts_with(&format!("not listed: {}: the response ", device(0))), "{ended:?}");
        assert!(line.contains(&error), "{ended:?}");
    }
}

#[tokio::test]
async fn a_delayed_cancel_is_not_sent_if_a_list_shows_that_the_operation_is_done() {
    let upstream = Upstream::start().await;
    let name = |id| format!("{}/operations/{id}", device(0));
    let page = |state: Value| {
        let operations = ["1", "2"].map(|id| {
            let metadata = json!({"type": "WIPE", "createTime": "2026-01-01T00:00:00Z"});
            let mut operation = json!({"name": name(id), "metadata": metadata});
            operation.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
            operation
        });
        Reply::json(200, &json!({"operations": operations}))
    };
    // The second list confirms the cancel of the earlier run.
    upstream.answers([
        page(json!({"done": false})),
        unavailable().header("retry-after", "3600"),
        page(json!({"done": true, "response": {}})),
    ]);
    let service = Setup::of(&upstream).start().await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let selection = json!({
        "enterprise": "enterprises/LC01", "devices": [device(0)], "types": ["WIPE"], "since": null, "until": null
    });
    let lines = [
        format!(
            r#"{{"event":"selection","version":1,"time":"2026-01-01T00:00:00Z","selection":{selection}}}"#
        ),
        json!({"event": "found", "name": name("1"), "type": "WIPE"}).to_string(),
        json!({"event": "cancel_sent", "name": name("1"), "time": "2026-01-01T00:00:00Z"}).to_string(),
    ];
    fs::write(&path, lines.map(|line| line + "\n").concat()).unwrap();
    let arguments = ["--yes", "--device", "d0000", "--output", "json", "--report", path.to_str().unwrap()];
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["summary"]["too_late"], json!(2), "{report}");
    assert_eq!(upstream.requests().len(), 3);
}
