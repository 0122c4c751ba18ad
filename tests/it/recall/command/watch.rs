//! `list --watch`, and lists over all devices with a filter.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    recall::{
        command::{run, wipe_devices},
        fixture::{ALL, device, start, wipe},
    },
    support::process::{Process, countermand, eventually},
};

#[tokio::test]
async fn a_watch_shows_operations_as_they_come_and_go() {
    let (emulator, service) = start().await;
    let first = wipe_devices(&emulator, 2, 1);
    let server = service.address.to_string();
    let arguments = ["list", ALL, "--server", &server, "--filter", "done = false", "--watch"];
    let process = Process::start(countermand(&arguments).args(["--interval", "100ms"]));
    for name in &first {
        process.stdout.has(&format!("appeared  pending    WIPE  {name}\n")).await;
    }
    let second = wipe(&emulator, &device(7), 1).remove(0);
    process.stdout.has(&format!("appeared  pending    WIPE  {second}\n")).await;
    service.cancel(&first[0]).await.unwrap();
    process.stdout.has(&format!("finished  cancelled  WIPE  {}\n", first[0])).await;
    emulator.control().execute(&first[1]);
    process.stdout.has(&format!("finished  done       WIPE  {}\n", first[1])).await;
    emulator.control().delete_device(&device(7));
    process.stdout.has(&format!("gone      -          -  {second}\n")).await;
    process.signal(Signal::SIGINT);
    let ended = process.end().await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(130), 6), "{ended:?}");
}

#[tokio::test]
async fn a_watch_of_one_device_survives_a_failure() {
    let (emulator, service) = start().await;
    let name = wipe(&emulator, &device(0), 1).remove(0);
    let server = service.address.to_string();
    let device = device(0);
    let arguments = ["list", &device, "--server", &server, "--watch", "--output", "json"];
    let process = Process::start(countermand(&arguments).args(["--interval", "50ms"]));
    process.stdout.has("\"appeared\"").await;
    emulator.control().fail_next(8, countermand_emulator::Fault::Unavailable);
    process.stderr.has("countermand: UNAVAILABLE").await;
    // The cancel may get one of the failures.
    eventually("a cancel", async || service.cancel(&name).await.ok()).await;
    process.stdout.has("\"finished\"").await;
    let lines: Vec<Value> =
        process.stdout.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), lines[1]["name"].as_str()), (2, Some(name.as_str())));
    assert_eq!(lines[1]["operation"]["error"]["code"], 1);
}

#[tokio::test]
async fn a_list_over_all_devices_prints_all_pages_with_the_filter() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 120, 2);
    emulator.control().issue_command(&device(5), serde_json::json!({"type": "LOCK"})).unwrap();
    let server = service.address.to_string();
    let filter = "done = false AND metadata.type = \"WIPE\"";
    let arguments = ["list", ALL, "--server", &server, "--filter", filter, "--output", "json"];
    let ended = run(&mut countermand(&arguments)).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), wipes.len()), "{}", ended.stderr);
    let unsupported = ["list", ALL, "--server", &server, "--filter", "name = 1"];
    let ended = run(&mut countermand(&unsupported)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("unsupported field"), "{ended:?}");
}
