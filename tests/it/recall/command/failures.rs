//! Refused calls, exhausted quotas, and devices that cannot be read.

use std::time::{Duration, Instant};

use countermand_emulator::{DeviceFault, Fault, Quota};
use serde_json::{Value, json};

use crate::{
    recall::{
        command::{journal, recall, run, wipe_devices},
        fixture::{device, emulator, settings, setup, start, wipe},
    },
    support::{
        process::{Process, countermand_after, eventually},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
};

#[tokio::test]
async fn a_caller_that_may_not_list_gets_the_error() {
    let emulator = emulator(settings()).await;
    wipe_devices(&emulator, 2, 1);
    let policy = "permit (principal, action, resource in Device::\"LC01/d0001\");";
    let service = setup(&emulator).policy(policy).start().await;
    for arguments in [&["--yes"][..], &["--dry-run"], &["--yes", "--device", "d0000"]] {
        let ended = run(&mut recall(service.address, arguments)).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(ended.stdout.contains(": PERMISSION_DENIED: "), "{ended:?}");
        assert!(ended.stdout.contains("reason NOT_PERMITTED of countermand"), "{ended:?}");
        let json = run(recall(service.address, arguments).args(["--output", "json"])).await;
        assert_eq!(json.code, Some(1), "{json:?}");
        let report: Value = serde_json::from_str(&json.stdout).unwrap();
        let summary = if arguments[0] == "--dry-run" { &report } else { &report["summary"] };
        let failed = summary["failed_lists"].as_array().unwrap();
        assert_eq!((failed.len(), &summary["found"]), (1, &json!(0)), "{report}");
        let (name, reason) = (failed[0]["name"].as_str().unwrap(), failed[0]["reason"].as_str().unwrap());
        assert!(reason.starts_with("PERMISSION_DENIED: "), "{report}");
        assert!(ended.stdout.ends_with(&format!("\nnot listed: {name}: {reason}\n")), "{ended:?}");
    }
    assert_eq!(emulator.control().queries().cancel, 0);
    // The caller's own device can be recalled.
    let ended = run(&mut recall(service.address, &["--yes", "--device", "d0001"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(emulator.control().pending().len(), 1);
}

#[tokio::test]
async fn cancels_that_are_refused_are_failures_with_their_reason() {
    let emulator = emulator(settings()).await;
    let wipes = wipe_devices(&emulator, 3, 1);
    let policy = "permit (principal, action == Action::\"list\", resource in Enterprise::\"LC01\");\n\
                  permit (principal, action, resource in Device::\"LC01/d0001\");";
    let service = setup(&emulator).policy(policy).start().await;
    let ended = run(&mut recall(service.address, &["--yes", "--output", "json"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let summary = &report["summary"];
    let counts = ["found", "cancelled", "failed"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!((counts, &summary["exit_code"]), ([3, 1, 2], &json!(1)));
    let failed = &report["operations"][0];
    assert_eq!((&failed["name"], &failed["outcome"]), (&json!(wipes[0]), &json!("FAILED")));
    assert!(failed["reason"].as_str().unwrap().starts_with("PERMISSION_DENIED: "), "{failed}");
}

#[tokio::test]
async fn a_requested_delay_is_obeyed() {
    let upstream = Upstream::start().await;
    let operation = |done: bool| {
        let metadata = json!({"type": "WIPE", "createTime": "2026-01-01T00:00:00Z"});
        let mut operation =
            json!({"name": format!("{}/operations/1", device(0)), "metadata": metadata, "done": done});
        if done {
            operation["error"] = json!({"code": 1, "message": ""});
        }
        Reply::json(200, &json!({"operations": [operation]}))
    };
    let info = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"});
    let error =
        json!({"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded", "details": [info]});
    upstream.answers([
        operation(false),
        Reply::json(429, &json!({"error": error})),
        Reply::json(200, &json!({})),
        operation(true),
    ]);
    let service = Setup::of(&upstream).start().await;
    let started = Instant::now();
    let ended = run(&mut recall(service.address, &["--yes", "--device", "d0000"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn an_exhausted_quota_only_delays() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 10, 4);
    emulator.control().set_quota(Quota { queries: Some(15), window: Duration::from_secs(1) });
    let ended = run(&mut recall(service.address, &["--yes"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(emulator.control().pending().is_empty());
    let queries = emulator.control().queries();
    // The refused calls: those in flight when the quota ends, and a few after each pause.
    let wanted = u64::try_from(wipes.len()).unwrap();
    assert!((wanted..wanted + 80).contains(&queries.cancel), "{queries:?}");
}

#[tokio::test]
async fn a_device_that_cannot_be_read_now_is_read_later() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 5, 1);
    emulator.control().set_device_fault(&device(2), Some(DeviceFault::Failing(Fault::Unavailable)));
    let process = Process::start(&mut recall(service.address, &["--yes"]));
    let cancelled = async || (emulator.control().queries().cancel >= 4).then_some(());
    eventually("four cancels", cancelled).await;
    emulator.control().set_device_fault(&device(2), None);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(emulator.control().pending().is_empty());
}

#[tokio::test]
async fn a_device_that_does_not_exist_is_an_error() {
    let (emulator, service) = start().await;
    wipe(&emulator, &device(0), 1);
    let devices = ["--device", "d0000", "--device", "gone", "--yes"];
    let ended = run(&mut recall(service.address, &devices)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("cancelled       1\n"), "{ended:?}");
    assert!(ended.stdout.contains("not listed: enterprises/LC01/devices/gone: NOT_FOUND"), "{ended:?}");
}

/// A page with one WIPE of the first device.
fn page(state: Value) -> Reply {
    let metadata = json!({"type": "WIPE", "createTime": "2026-01-01T00:00:00Z"});
    let mut operation = json!({"name": format!("{}/operations/1", device(0)), "metadata": metadata});
    operation.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    Reply::json(200, &json!({"operations": [operation]}))
}

#[tokio::test]
async fn a_list_decides_about_an_operation_whose_cancel_has_an_error() {
    let cancelled = json!({"done": true, "error": {"code": 1, "message": ""}});
    let executed = json!({"done": true, "response": {}});
    let denied = Reply::plain_error(403, "PERMISSION_DENIED", "no list");
    for (list, code, outcome) in [
        (page(cancelled), 0, "CANCELLED"),
        (page(executed), 6, "TOO_LATE"),
        (page(json!({})), 1, "FAILED"),
        (Reply::json(200, &json!({})), 1, "FAILED"),
        (denied, 1, "FAILED"),
    ] {
        let upstream = Upstream::start().await;
        upstream.answers([page(json!({})), Reply::plain_error(500, "INTERNAL", "no cancel"), list]);
        let service = Setup::of(&upstream).start().await;
        let arguments = ["--yes", "--device", "d0000", "--output", "json"];
        let ended = run(&mut recall(service.address, &arguments)).await;
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let operation = &report["operations"][0];
        assert_eq!((ended.code, &operation["outcome"]), (Some(code), &json!(outcome)), "{ended:?}");
        let has_reason = operation["reason"].as_str().is_some_and(|reason| reason.contains("no cancel"));
        assert_eq!(has_reason, outcome == "FAILED", "{operation}");
        assert_eq!(upstream.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_printed_is_an_error_and_the_journal_has_the_success() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 2, 1);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let server = service.address.to_string();
    let words =
        ["recall", "--enterprise", "LC01", "--type", "WIPE", "--yes", "--server", &server, "--report"];
    let mut command = countermand_after("exec >/dev/full", &words);
    let ended = run(command.arg(&path)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot write to standard output: No space left"), "{ended:?}");
    assert!(emulator.control().pending().is_empty());
    let lines = journal(&path);
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((&summary["cancelled"], &summary["exit_code"]), (&json!(2), &json!(0)));
}
