//! The memory of a service that lists an enterprise with thousands of devices.

use countermand::proto::longrunning::ListOperationsRequest;
use countermand_emulator::Emulator;
use serde_json::json;

use crate::{
    recall::fixture::{emulator, names, pages, request, serve, settings},
    support::process::Process,
};

const DEVICES: usize = 2000;
const OPERATIONS_OF_A_DEVICE: usize = 5;

/// The size of each operation, about. The whole list has 40 MB.
const OPERATION_BYTES: usize = 4000;

/// The maximum growth of the peak by the whole list, in KiB: a quarter of its size.
const MAX_GROWTH: u64 = 10 * 1024;

/// A field of `/proc/PID/status`, in KiB.
fn memory(process: &Process, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Issues commands to devices of an enterprise, and returns the names of the operations.
fn issue(emulator: &Emulator, enterprise: &str, devices: usize) -> Vec<String> {
    let text = "x".repeat(OPERATION_BYTES);
    let command = json!({"type": "START_LOST_MODE", "startLostModeParams": {"text": text}});
    let devices: Vec<_> =
        (0..devices).map(|id| format!("enterprises/{enterprise}/devices/d{id:04}")).collect();
    let devices = devices.iter().map(String::as_str);
    emulator.control().issue_commands(devices, OPERATIONS_OF_A_DEVICE, &command).unwrap()
}

#[tokio::test]
async fn ten_thousand_operations_on_two_thousand_devices_are_listed_in_flat_memory() {
    let emulator = emulator(settings()).await;
    let mut all = issue(&emulator, "LC01", DEVICES);
    // Two pages, as large as those of the long list.
    issue(&emulator, "LC02", 200);
    let files = tempfile::tempdir().unwrap();
    let (service, mut client) = serve(&emulator, files.path(), "info", &[]).await;
    let other = ListOperationsRequest { name: "enterprises/LC02/devices/-".to_owned(), ..request(0, "") };
    for _ in 0..5 {
        pages(&mut client, other.clone()).await;
    }
    let before = memory(&service, "VmHWM");
    all.sort();
    for _ in 0..2 {
        let mut listed = names(&pages(&mut client, request(0, "")).await);
        listed.sort();
        assert!(listed == all, "{} of {}", listed.len(), all.len());
    }
    let peak = memory(&service, "VmHWM");
    assert!(peak < before + MAX_GROWTH, "{before} KiB, then {peak} KiB");
}
