//! The limits and descriptors that the process starts with.

use std::fs::read_to_string;

use countermand_emulator::{Emulator, Settings};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    lifecycle::{
        caller::{cancel, cancel_by, connect, health, operation},
        google::Google,
        service::{SERVE, Service},
    },
    support::{
        account::key_file,
        process::{Process, countermand, countermand_after, eventually, run},
        service::Setup,
    },
};

/// The client's connection preface of HTTP/2, with empty SETTINGS (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Starts a service with this soft and this hard limit of open files.
async fn start_with_limits(google: &Google, soft: u32, hard: u32) -> Service {
    let command = countermand_after(&format!("ulimit -S -n {soft}; ulimit -H -n {hard}"), &SERVE);
    let service = Service::start_as(google, command, |_| {}).await;
    service.ready().await;
    service
}

/// Cancels 20 operations at the same time, each over a new connection.
async fn cancel_20(service: &Service) {
    let mut cancels: JoinSet<_> = (1..=20).map(|id| cancel(service.address, id)).collect();
    while let Some(result) = cancels.join_next().await {
        result.unwrap().unwrap();
    }
}

/// matrix-org/dendrite #2527: often only the soft limit is too low, and the process may raise it.
#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_limit() {
    let google = Google::start().await;
    let service = start_with_limits(&google, 128, 4096).await;
    service.process.stderr.has("raised the limit of open files from=128 to=4096").await;
    let limits = read_to_string(format!("/proc/{}/limits", service.process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["4096", "4096"]);
    let log = service.process.stderr.text();
    let warning =
        "fewer connections are admitted limit=4096 reserved=1024 max_connections=10000 connections=3072";
    assert!(log.contains(warning), "{log}");
}

/// twitter/twemproxy #232: connections of clients took every descriptor, so the proxy could not connect to its servers.
#[tokio::test]
async fn connections_that_send_nothing_do_not_take_the_last_descriptors() {
    let google = Google::start().await;
    let service = start_with_limits(&google, 128, 128).await;
    let log = service.process.stderr.text();
    assert!(log.contains("limit=128 reserved=64 max_connections=10000 connections=64"), "{log}");
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(service.address).await.unwrap());
    }
    cancel_20(&service).await;
    assert_eq!(health(service.address, "").await.unwrap(), ServingStatus::Serving);
    assert_eq!(service.get("/readyz").await.0, 200);
    let probe = run(&mut countermand(&["probe", "--server", &service.address.to_string()])).await;
    assert_eq!(probe.code, Some(0), "{probe:?}");
}

/// envoyproxy/envoy #980: without free descriptors, a proxy could not write its logs or its statistics.
#[tokio::test]
async fn idle_http2_connections_do_not_take_the_last_descriptors() {
    let google = Google::start().await;
    let service = start_with_limits(&google, 128, 128).await;
    let channel = connect(service.address).await.unwrap();
    cancel_by(channel.clone(), operation(0)).await.unwrap();
    let (mut served, mut refused) = (Vec::new(), 0);
    for _ in 0..150 {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        let is_served = client.write_all(PREFACE).await.is_ok() && client.read_u8().await.is_ok();
        if is_served { served.push(client) } else { refused += 1 }
    }
    assert_eq!((served.len(), refused), (63, 87));
    // Google's fake speaks HTTP/1.1, so each of these cancels takes a descriptor.
    google.hold();
    let mut cancels: JoinSet<_> = (1..=20).map(|id| cancel_by(channel.clone(), operation(id))).collect();
    google.arrived(21).await;
    assert_eq!(service.get("/readyz").await.0, 200);
    google.release();
    while let Some(result) = cancels.join_next().await {
        result.unwrap().unwrap();
    }
    let log = service.process.stderr.text();
    assert!(log.contains("refused a connection: too many connections are open connections=64"), "{log}");
    assert!(!log.contains("Too many open files"), "{log}");
    drop(served);
    // The closed connections make room for a new one.
    eventually("a new connection", async || cancel(service.address, 30).await.ok()).await;
}

/// Runs `serve` after `preparation` with the audit log `file` until it ends.
async fn refused(preparation: &str, file: &str) {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = countermand_after(preparation, &["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", "off", "--upstream-url", &google.url]).current_dir(&dir);
    std::fs::write(dir.path().join("key.json"), key_file(&google.token_url())).unwrap();
    command.env("COUNTERMAND_CREDENTIALS", "key.json").env("COUNTERMAND_AUDIT_FILE", file);
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(78), "{preparation} {file}: {ended:?}");
    let expected = "countermand: audit.file: the audit log goes to a standard stream that is closed, ";
    assert!(ended.stderr.starts_with(expected) && ended.stderr.lines().count() == 1, "{ended:?}");
}

/// rust-lang/rust #83904: a write to a standard output that was closed at the start succeeds, and its bytes are lost.
#[tokio::test]
async fn an_audit_log_to_a_closed_standard_output_is_a_configuration_error() {
    refused("exec >&-", "stdout").await;
    refused("exec <&- >&-", "stdout").await;
    for file in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        refused("exec >&-", file).await;
    }
}

/// rust-lang/rust #57728: a descriptor from 0 to 2 that is closed at the start is opened again. Standard input is not
/// used, the log may lose lines, and a redirection to /dev/null is deliberate. Python's `subprocess.DEVNULL` opens it
/// for reading and writing.
#[tokio::test]
async fn a_discarded_audit_log_and_a_closed_standard_input_are_accepted() {
    let google = Google::start().await;
    for preparation in ["exec >/dev/null", "exec 1<>/dev/null", "exec <&-", "exec >>/dev/null <&-"] {
        let command = countermand_after(preparation, &SERVE);
        let service = Service::start_as(&google, command, |_| {}).await;
        service.ready().await;
        cancel(service.address, 1).await.unwrap();
    }
}

/// rust-lang/rust #75295: standard error that is closed at the start is opened as /dev/null, so the log is lost. Nothing
/// is left to report that to, and the calls do not need the log.
#[tokio::test]
async fn a_closed_standard_error_does_not_stop_the_service() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.json"), key_file(&google.token_url())).unwrap();
    let mut command = countermand_after("exec 2>&-", &["serve", "--listen", "unix:socket"]);
    command.args(["--admin-listen", "off", "--upstream-url", &google.url]).current_dir(&dir);
    let process = Process::start(command.env("COUNTERMAND_CREDENTIALS", "key.json"));
    let client = async |words: &[&str]| {
        run(countermand(words).args(["--server", "unix:socket"]).current_dir(&dir)).await.code
    };
    eventually("a socket", async || (client(&["probe"]).await == Some(0)).then_some(())).await;
    assert_eq!(client(&["cancel", &operation(1)]).await, Some(0));
    process.stdout.has(&operation(1)).await;
}

/// uutils/coreutils #9782: a command that could not print its result exited with 0.
#[tokio::test]
async fn a_command_that_cannot_print_its_result_fails() {
    let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), Settings::default()).await.unwrap();
    let issued =
        emulator.control().issue_command("enterprises/LC01/devices/d1", json!({"type": "LOCK"})).unwrap();
    let name = issued["name"].as_str().unwrap();
    let service = Setup::new(emulator.url(), emulator.credentials().expose()).start().await;
    let server = service.address.to_string();
    for words in [
        ["get", name].as_slice(),
        &["get", name, "--output", "json"],
        &["list", "enterprises/LC01/devices/d1"],
        &["list", "enterprises/LC01/devices/d1", "--output", "json"],
        &["cancel", name],
        &["cancel", name, "--output", "json"],
        &["wait", name, "--output", "json"],
        &["probe"],
    ] {
        let ended = run(countermand_after("exec >/dev/full", words).args(["--server", &server])).await;
        assert_eq!(ended.code, Some(1), "{words:?}: {ended:?}");
        assert!(
            ended.stderr.contains("cannot write to standard output: No space left"),
            "{words:?}: {ended:?}"
        );
    }
}

/// uutils/coreutils #9782, for `dev --once`, whose only result is its output.
#[cfg(feature = "emulator")]
#[tokio::test]
async fn a_demonstration_that_cannot_be_printed_fails() {
    let _alone = crate::lifecycle::DEFAULT_PORT.lock().await;
    let ended = run(&mut countermand_after("exec >/dev/full", &["dev", "--once"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended.stderr.matches("cannot write to standard output: No space left").count(),
        1,
        "{ended:?}"
    );
}

/// uutils/coreutils #11122: the exit code reports the result of a client command, so its output may be discarded.
#[tokio::test]
async fn a_client_command_with_discarded_output_exits_with_its_result() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    let address = service.address.to_string();
    for preparation in ["exec >/dev/null", "exec 1<>/dev/null", "exec >&-"] {
        let probe = countermand_after(preparation, &["probe", "--server", &address]);
        let ended = run(&mut { probe }).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{preparation}");
    }
}
