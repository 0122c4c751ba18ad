//! The memory of a service that lists an enterprise with thousands of devices.

use std::net::SocketAddr;

use countermand::proto::longrunning::operations_client::OperationsClient;
use tonic::transport::{Channel, Endpoint};

use crate::{
    recall::fixture::{device, emulator, names, pages, request, settings, wipe},
    support::process::{Process, countermand},
};

const DEVICES: usize = 2000;
const OPERATIONS_OF_A_DEVICE: usize = 5;

/// A field of `/proc/PID/status`, in KiB.
fn memory(process: &Process, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn ten_thousand_operations_on_two_thousand_devices_are_listed_in_flat_memory() {
    let emulator = emulator(settings()).await;
    let mut all = Vec::new();
    for number in 0..DEVICES {
        all.extend(wipe(&emulator, &device(number), OPERATIONS_OF_A_DEVICE));
    }
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("key.json"), emulator.credentials().expose()).unwrap();
    let mut serve = countermand(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    serve.args(["--credentials", "key.json", "--upstream-url", emulator.url()]).current_dir(&files);
    let service = Process::start(&mut serve);
    let address: SocketAddr = service
        .stderr
        .see(|log| log.split_once(": listening address=")?.1.lines().next()?.parse().ok())
        .await;
    let channel: Channel =
        Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = OperationsClient::new(channel);

    let mut resident = Vec::new();
    for _ in 0..3 {
        assert_eq!(names(&pages(&mut client, request(0, "")).await), all);
        resident.push(memory(&service, "VmRSS"));
    }
    // The operations of all devices have 5 MiB in one list. A page has at most a tenth of them.
    let peak = memory(&service, "VmHWM");
    assert!(resident[2] < resident[0] + 4 * 1024, "{resident:?} KiB");
    assert!(peak < resident[0] + 8 * 1024, "{peak} KiB, {resident:?} KiB");
}
