//! The lines of the log about devices that cannot be read.

use countermand::proto::longrunning::ListOperationsRequest;
use countermand_emulator::{DeviceFault, Fault};
use nix::sys::signal::Signal::SIGTERM;
use tonic::Code;

use crate::recall::fixture::{device, emulator, list, request, serve, settings, wipe};

#[tokio::test]
async fn the_failed_devices_of_a_page_have_one_warning() {
    let emulator = emulator(settings()).await;
    for number in 0..6 {
        wipe(&emulator, &device(number), 1);
    }
    let failing = [1, 2, 4].map(device);
    for device in &failing {
        emulator.control().set_device_fault(device, Some(DeviceFault::Failing(Fault::Unavailable)));
    }
    let dir = tempfile::tempdir().unwrap();
    let (process, mut client) = serve(&emulator, dir.path(), "debug", &[]).await;
    let partial = ListOperationsRequest { return_partial_success: true, ..request(0, "") };
    assert_eq!(list(&mut client, partial).await.unwrap().unreachable, failing);
    process.signal(SIGTERM);
    let log = process.end().await.stderr;
    let lines = |parts: &[&str]| -> Vec<_> {
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
    };
    let warnings = lines(&[" WARN ", "outcome_log"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in
        ["devices of a list cannot be read", "enterprise=\"LC01\"", "failed=3", "Google returned HTTP 503"]
    {
        assert!(warnings[0].contains(part), "{part}: {warnings:?}");
    }
    for device in &failing {
        assert_eq!(lines(&["DEBUG", "upstream call failed", device]).len(), 1, "{log}");
    }
}

#[tokio::test]
async fn an_exhausted_quota_has_no_warning_about_devices() {
    let emulator = emulator(settings()).await;
    wipe(&emulator, &device(0), 1);
    emulator.control().set_device_fault(&device(0), Some(DeviceFault::Failing(Fault::Exhausted)));
    let dir = tempfile::tempdir().unwrap();
    let (process, mut client) = serve(&emulator, dir.path(), "debug", &[]).await;
    // The first page has the devices only.
    let first = list(&mut client, request(0, "")).await.unwrap();
    let status = list(&mut client, request(0, &first.next_page_token)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    process.signal(SIGTERM);
    let log = process.end().await.stderr;
    assert!(log.contains("upstream call failed") && !log.contains("devices of a list"), "{log}");
}
