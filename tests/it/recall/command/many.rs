//! A recall of thousands of operations.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    recall::{
        command::{has_events, journal, names_of, outcomes, recall, run, wipe_devices},
        fixture::start,
    },
    support::process::{Process, eventually},
};

const DEVICES: usize = 400;
const OPERATIONS_OF_A_DEVICE: usize = 5;

/// The largest resident size of a process so far, in KiB; `None` after its end.
fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[tokio::test]
async fn the_memory_for_ten_thousand_operations_is_that_of_their_names_and_times() {
    let (emulator, service) = start().await;
    const OF_A_DEVICE: usize = 25;
    wipe_devices(&emulator, DEVICES, OF_A_DEVICE);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let process = Process::start(&mut recall(service.address, &arguments));
    has_events(&path, "found", 1).await;
    let at_the_start = peak(process.id()).unwrap();
    // Each read of the journal takes time from the recall.
    while names_of(&journal(&path), "found").len() < DEVICES * OF_A_DEVICE {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let at_the_end = peak(process.id()).unwrap();
    drop(process);
    // It uses 7,000 to 8,300 KiB, with the pages in flight. With the whole operations, it would be 11,700 to 12,100.
    assert!(at_the_end < at_the_start + 10_000, "{at_the_start} KiB, {at_the_end} KiB");
}

#[tokio::test]
async fn two_thousand_operations_are_cancelled_once_across_a_kill() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, DEVICES, OPERATIONS_OF_A_DEVICE);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let process = Process::start(&mut recall(service.address, &arguments));
    has_events(&path, "cancel_accepted", 800).await;
    process.signal(Signal::SIGKILL);
    process.end().await;

    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let outcomes = outcomes(&journal(&path));
    assert_eq!(outcomes.len(), DEVICES * OPERATIONS_OF_A_DEVICE);
    assert!(outcomes.values().all(|outcome| outcome == "CANCELLED"));
    let cancels = emulator.control().cancel_requests();
    assert_eq!(cancels.len(), outcomes.len());
    // The server completes the cancels that were in flight at the kill.
    assert!(cancels.values().all(|count| *count == 1));
    assert!(emulator.control().pending().is_empty());
}

#[tokio::test]
async fn the_first_cancel_leaves_long_before_the_list_ends() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 400, 1);
    // The list takes at least 400 / 16 rounds.
    emulator.control().set_latency(Duration::from_millis(500));
    let process = Process::start(&mut recall(service.address, &["--yes"]));
    let queries = eventually("a cancel", async || {
        let queries = emulator.control().queries();
        (queries.cancel > 0).then_some(queries)
    });
    let queries = queries.await;
    assert!(queries.list < 30, "{queries:?}");
    drop(process);
}
