//! The guard: the report of many pending WIPEs of an enterprise.

use std::{fs, net::SocketAddr, path::PathBuf};

use countermand::proto::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
    operations_client::OperationsClient,
};
use countermand_emulator::Emulator;
use nix::sys::signal::Signal::SIGHUP;
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{
    recall::fixture::{device, emulator, list, request, settings, wipe},
    support::{
        files::replace,
        metrics::Scrape,
        process::{Process, countermand, eventually},
        with_timeout,
    },
};

/// The message of a report.
const MESSAGE: &str = "an enterprise has many pending WIPEs: if they are a mistake, cancel them";

/// The process of a service with a configuration file, and the emulator behind it.
struct Guarded {
    emulator: Emulator,
    process: Process,
    client: OperationsClient<Channel>,
    admin: SocketAddr,
    configuration: PathBuf,
    _files: TempDir,
}

impl Guarded {
    async fn start(configuration: &str) -> Self {
        let emulator = emulator(settings()).await;
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("key.json"), emulator.credentials().expose()).unwrap();
        let file = files.path().join("countermand.toml");
        fs::write(&file, configuration).unwrap();
        let mut serve = countermand(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        serve.args(["--credentials", "key.json", "--upstream-url", emulator.url()]);
        serve.arg("--config").arg(&file).current_dir(&files);
        let process = Process::start(&mut serve);
        let address = address(&process, ": listening address=").await;
        let admin = self::address(&process, ": listening on the admin port address=").await;
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let client = OperationsClient::new(channel);
        Self { emulator, process, client, admin, configuration: file, _files: files }
    }

    /// Issues a LOCK to a device, and returns the name of the operation.
    fn lock(&self, device: &str) -> String {
        let names = self.emulator.control().issue_commands([device], 1, &json!({"type": "LOCK"})).unwrap();
        names.into_iter().next().unwrap()
    }

    /// Lists the operations of all devices of `LC01`.
    async fn list_all(&self) -> usize {
        list(&mut self.client.clone(), request(0, "")).await.unwrap().operations.len()
    }

    async fn get(&self, name: &str) -> bool {
        let mut client = self.client.clone();
        let get = client.get_operation(GetOperationRequest { name: name.to_owned() });
        with_timeout("a get", get).await.unwrap().into_inner().done
    }

    /// The reports so far, by the metric. The log has as many lines.
    async fn reports(&self) -> f64 {
        let reports = Scrape::of(self.admin).await.value("countermand_guard_triggered_total", &[]);
        let lines = |log: &str| log.matches(MESSAGE).count() as f64;
        self.process.stderr.see(|log| (lines(log) >= reports).then_some(())).await;
        assert_eq!(lines(&self.process.stderr.text()), reports);
        reports
    }

    async fn reload(&self, configuration: &str, outcome: &str) {
        let before = self.process.stderr.text().len();
        replace(&self.configuration, configuration);
        self.process.signal(SIGHUP);
        self.process.stderr.see(|log| log[before..].contains(outcome).then_some(())).await;
    }
}

async fn address(process: &Process, message: &str) -> SocketAddr {
    process.stderr.see(|log| log.split_once(message)?.1.lines().next()?.parse().ok()).await
}

#[tokio::test]
async fn a_list_that_shows_more_pending_wipes_than_the_limit_is_reported_and_again_when_the_number_has_doubled()
 {
    let guarded = Guarded::start("[guard]\npending_wipes = 5").await;
    for number in 0..3 {
        wipe(&guarded.emulator, &device(number), 2);
        guarded.lock(&device(number));
    }
    // Another enterprise, below the limit.
    let other = "enterprises/LC02/devices/d1";
    wipe(&guarded.emulator, other, 5);
    let of_other = ListOperationsRequest { name: other.to_owned(), ..request(0, "") };
    assert_eq!(list(&mut guarded.client.clone(), of_other).await.unwrap().operations.len(), 5);
    assert_eq!(guarded.reports().await, 0.0);

    assert_eq!(guarded.list_all().await, 9);
    assert_eq!(guarded.reports().await, 1.0);
    let log = guarded.process.stderr.text();
    let line = log.lines().find(|line| line.contains(MESSAGE)).unwrap();
    assert!(line.contains("WARN") && line.contains("operations::guard"), "{line}");
    assert!(line.ends_with("enterprise=\"LC01\" pending=6 limit=5 period=10m"), "{line}");
    assert!(!log.contains("LC02"));

    wipe(&guarded.emulator, &device(3), 5);
    assert_eq!(guarded.list_all().await, 14);
    assert_eq!(guarded.reports().await, 1.0);
    wipe(&guarded.emulator, &device(4), 1);
    assert_eq!(guarded.list_all().await, 15);
    assert_eq!(guarded.reports().await, 2.0);
    let log = guarded.process.stderr.text();
    assert!(log.contains("enterprise=\"LC01\" pending=12 limit=5 period=10m"), "{log}");
}

#[tokio::test]
async fn a_wipe_that_a_get_shows_counts_until_it_is_done() {
    let guarded = Guarded::start("[guard]\npending_wipes = 1\n[polling]\ncache_entries = 0").await;
    let [first, second, third] = &wipe(&guarded.emulator, &device(0), 3)[..] else { panic!("three") };
    assert!(!guarded.get(first).await);
    let cancel = CancelOperationRequest { name: first.clone() };
    with_timeout("a cancel", guarded.client.clone().cancel_operation(cancel)).await.unwrap();
    eventually("the operation is done", async || guarded.get(first).await.then_some(())).await;
    assert!(!guarded.get(second).await);
    assert_eq!(guarded.reports().await, 0.0);
    assert!(!guarded.get(third).await);
    assert_eq!(guarded.reports().await, 1.0);
}

#[tokio::test]
async fn a_poll_shows_wipes_that_nobody_has_asked_for() {
    let guarded = Guarded::start("[guard]\npending_wipes = 1\n[polling]\nmin_interval = \"10ms\"").await;
    // Two waits on a device are polled by lists.
    let waits = [guarded.lock(&device(0)), guarded.lock(&device(0))].map(|name| {
        let mut client = guarded.client.clone();
        tokio::spawn(async move { client.wait_operation(WaitOperationRequest { name, timeout: None }).await })
    });
    wipe(&guarded.emulator, &device(0), 2);
    guarded.process.stderr.has(MESSAGE).await;
    assert_eq!(guarded.reports().await, 1.0);
    waits.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_reload_turns_the_guard_on_and_off() {
    let guarded = Guarded::start("").await;
    wipe(&guarded.emulator, &device(0), 2);
    assert_eq!(guarded.list_all().await, 2);
    assert_eq!(guarded.reports().await, 0.0);
    let applied = "reloaded the configuration applied=\"guard.pending_wipes, guard.period\"";
    guarded.reload("[guard]\npending_wipes = 1\nperiod = \"1h\"", applied).await;
    assert_eq!(guarded.list_all().await, 2);
    assert_eq!(guarded.reports().await, 1.0);
    guarded.reload("", applied).await;
    wipe(&guarded.emulator, &device(0), 2);
    assert_eq!(guarded.list_all().await, 4);
    assert_eq!(guarded.reports().await, 1.0);
}
