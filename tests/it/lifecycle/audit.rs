//! The audit log of a running process: rotation, completeness, and a full or slow disk.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::Signal::{SIGHUP, SIGTERM},
        stat::Mode,
    },
    unistd::mkfifo,
};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::{
    lifecycle::{
        caller::{begin, cancel, cancel_by, connect, operation},
        google::Google,
        service::{SERVE, Service},
    },
    support::process::{countermand_after, eventually},
};

/// Starts a service with the audit log `file`, and waits until it is ready.
async fn start(google: &Google, file: &Path) -> Service {
    let service =
        Service::start_with(google, |command| _ = command.env("COUNTERMAND_AUDIT_FILE", file)).await;
    service.ready().await;
    service
}

/// A directory, and the path of an audit log in it. The directory outlives the service's own.
fn log_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.jsonl");
    (dir, log)
}

/// The operation names in a log. Panics if a line is incomplete.
fn names(log: &str) -> Vec<String> {
    let name = |line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        line["name"].as_str().unwrap_or_default().to_owned()
    };
    assert!(log.is_empty() || log.ends_with('\n'), "incomplete line: {log}");
    log.lines().map(name).collect()
}

/// Callers that cancel one operation after another, until a cancel fails.
struct Load(JoinSet<Vec<String>>);

impl Load {
    fn start(service: &Service) -> Self {
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let address = service.address;
            callers.spawn(async move {
                let mut answered = Vec::new();
                let channel = connect(address).await.unwrap();
                for nth in 0..100_000 {
                    let name = operation(caller * 1_000_000 + nth);
                    if cancel_by(channel.clone(), name.clone()).await.is_err() {
                        break;
                    }
                    answered.push(name);
                }
                answered
            });
        }
        Self(callers)
    }

    /// Waits until every caller has stopped. Returns the names of the cancelled operations.
    async fn answered(self) -> Vec<String> {
        self.0.join_all().await.concat()
    }
}

#[tokio::test]
async fn standard_output_has_only_the_audit_log() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    cancel(service.address, 1).await.unwrap();
    google.answer_cancel(404, r#"{"error": {"status": "NOT_FOUND"}}"#);
    cancel(service.address, 2).await.unwrap_err();
    service.process.signal(SIGHUP);
    google.answer_cancel(200, "{}");
    cancel(service.address, 3).await.unwrap();
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(names(&ended.stdout), [operation(1), operation(2), operation(3)]);
}

#[tokio::test]
async fn a_log_rotation_under_load_loses_no_line() {
    let google = Google::start().await;
    let (dir, log) = log_dir();
    let service = start(&google, &log).await;
    let load = Load::start(&service);
    let mut rotated = Vec::new();
    for nth in 1..=3 {
        let lines = || std::fs::read_to_string(&log).is_ok_and(|log| log.lines().count() > 20);
        eventually("a log to rotate", async || lines().then_some(())).await;
        let old = dir.path().join(format!("audit.jsonl.{nth}"));
        std::fs::rename(&log, &old).unwrap();
        service.process.signal(SIGHUP);
        eventually("a new log", async || log.exists().then_some(())).await;
        rotated.push(old);
    }
    // The callers stop when the process ends.
    service.process.signal(SIGTERM);
    let (answered, ended) = tokio::join!(load.answered(), service.process.end());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "");
    rotated.push(log);
    let mut recorded: Vec<_> =
        rotated.iter().flat_map(|log| names(&std::fs::read_to_string(log).unwrap())).collect();
    recorded.sort_unstable();
    let mut answered = answered;
    answered.sort_unstable();
    assert!(answered.len() > 60, "the load was too small");
    let missing: Vec<_> = answered.iter().filter(|name| recorded.binary_search(name).is_err()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let lines = recorded.len();
    recorded.dedup();
    assert_eq!(recorded.len(), lines, "one line per call");
}

#[tokio::test]
async fn calls_that_the_drain_aborts_are_audited() {
    let google = Google::start().await;
    let (_dir, log) = log_dir();
    let service = Service::start_with(&google, |command| {
        command.env("COUNTERMAND_AUDIT_FILE", &log).env("COUNTERMAND_DRAIN_TIMEOUT", "3s");
    })
    .await;
    service.ready().await;
    google.hold();
    let (in_flight, hung_up) = (begin(service.address, 1), begin(service.address, 2));
    google.arrived(2).await;
    hung_up.abort();
    service.process.signal(SIGTERM);
    assert_eq!(service.process.end().await.code, Some(0));
    in_flight.await.unwrap().unwrap_err();
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches(r#""code":"UNAVAILABLE""#).count(), 2, "{log}");
    let mut names = names(&log);
    names.sort_unstable();
    assert_eq!(names, [operation(1), operation(2)]);
}

/// Whether the status is UNAVAILABLE with the reason `AUDIT_UNAVAILABLE`.
fn is_audit_unavailable(status: &Status) -> bool {
    let details = String::from_utf8_lossy(status.details()).into_owned();
    status.code() == Code::Unavailable && details.contains("AUDIT_UNAVAILABLE")
}

#[tokio::test]
async fn calls_are_refused_before_they_are_sent_while_the_disk_is_full() {
    let google = Google::start().await;
    let (dir, log) = log_dir();
    // The limit is 8 blocks of 512 or 1,024 bytes. It ends in the middle of a line.
    let command = countermand_after("trap '' XFSZ; ulimit -f 8", &SERVE);
    let service =
        Service::start_as(&google, command, |command| _ = command.env("COUNTERMAND_AUDIT_FILE", &log)).await;
    service.ready().await;
    let mut sent = 0;
    let refused = loop {
        sent += 1;
        assert!(sent < 50, "the log never reaches the limit");
        if let Err(refused) = cancel(service.address, sent).await {
            break refused;
        }
    };
    assert!(is_audit_unavailable(&refused), "{refused:?}");
    service.process.stderr.has("the audit log cannot be written: calls are refused").await;
    let refused = cancel(service.address, 100).await.unwrap_err();
    assert!(is_audit_unavailable(&refused), "{refused:?}");
    assert_eq!(google.seen().authorizations.len(), sent, "a call that cannot be audited is not sent");
    let before = std::fs::read_to_string(&log).unwrap();
    assert_eq!(names(&before).len(), sent - 1, "every line is complete");

    // Space becomes free without a signal to the service.
    let old = dir.path().join("old");
    std::fs::rename(&log, &old).unwrap();
    service.process.stderr.has("the audit log can be written again lost=0").await;
    cancel(service.address, 200).await.unwrap();
    let after = names(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(after.first(), Some(&operation(sent)), "the line that waited for space");
    assert_eq!(after.last(), Some(&operation(200)));
    assert_eq!(std::fs::read_to_string(&old).unwrap(), before);
}

#[tokio::test]
async fn calls_continue_on_a_full_disk_when_on_failure_is_continue() {
    let google = Google::start().await;
    let service = Service::start_with(&google, |command| {
        command.env("COUNTERMAND_AUDIT_FILE", "/dev/full").env("COUNTERMAND_AUDIT_ON_FAILURE", "continue");
    })
    .await;
    service.ready().await;
    for id in 1..=3 {
        cancel(service.address, id).await.unwrap();
    }
    service.process.stderr.has("the audit log cannot be written: calls continue").await;
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert!(ended.stderr.contains("the audit log could not be written to the end lost=3"), "{ended:?}");
}

/// A full pipe at `path`. Writes to it block until the test reads.
fn full_pipe(path: &Path) -> File {
    mkfifo(path, Mode::S_IRWXU).unwrap();
    let flags = OFlag::O_NONBLOCK.bits();
    let mut pipe = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap();
    while pipe.write(b"\n").is_ok() {}
    pipe
}

/// Starts a service with the pipe at `path` as standard output, and with `on_failure` set to `continue`.
async fn start_with_stdout(google: &Google, path: &Path, drain_timeout: &str) -> Service {
    let command = countermand_after(&format!("exec >'{}'", path.display()), &SERVE);
    let service = Service::start_as(google, command, |command| {
        command
            .env("COUNTERMAND_AUDIT_ON_FAILURE", "continue")
            .env("COUNTERMAND_DRAIN_TIMEOUT", drain_timeout);
    })
    .await;
    service.ready().await;
    service
}

#[tokio::test]
async fn calls_are_answered_while_the_log_blocks_when_on_failure_is_continue() {
    let google = Google::start().await;
    let (dir, _) = log_dir();
    let path = dir.path().join("stdout");
    let mut pipe = full_pipe(&path);
    let service = start_with_stdout(&google, &path, "1s").await;
    let start = Instant::now();
    for id in 1..=20 {
        cancel(service.address, id).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10), "only the first call waits for the log");
    service.process.stderr.has("the audit log takes seconds to write: calls continue").await;

    let mut log = vec![0; 1024 * 1024];
    let padding = pipe.read(&mut log).unwrap();
    service.process.stderr.has("the audit log can be written again lost=0").await;
    assert!(log[..padding].iter().all(|byte| *byte == b'\n'));
    cancel(service.address, 21).await.unwrap();
    let length = pipe.read(&mut log).unwrap();
    let recorded = names(std::str::from_utf8(&log[..length]).unwrap());
    assert_eq!(recorded, (1..=21).map(operation).collect::<Vec<_>>());
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert!(!ended.stderr.contains("the audit log could not be written to the end"), "{ended:?}");
}

#[tokio::test]
async fn a_drain_waits_for_a_slow_audit_log() {
    let google = Google::start().await;
    let (dir, _) = log_dir();
    let path = dir.path().join("stdout");
    let mut pipe = full_pipe(&path);
    let service = start_with_stdout(&google, &path, "25s").await;
    for id in 1..=3 {
        cancel(service.address, id).await.unwrap();
    }
    service.process.signal(SIGTERM);
    service.process.stderr.has("draining").await;
    // The pause is longer than the drain of an idle process, and shorter than the wait for the log.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut log = vec![0; 1024 * 1024];
    let padding = pipe.read(&mut log).unwrap();
    let ended = service.process.end().await;
    assert!(!ended.stderr.contains("the audit log could not be written to the end"), "{ended:?}");
    assert_eq!(ended.code, Some(0));
    let length = padding + pipe.read(&mut log[padding..]).unwrap_or(0);
    let recorded = names(std::str::from_utf8(&log[..length]).unwrap().trim_start_matches('\n'));
    assert_eq!(recorded, (1..=3).map(operation).collect::<Vec<_>>());
}

#[tokio::test]
async fn lines_lost_to_a_stalled_log_are_counted_at_the_exit() {
    let google = Google::start().await;
    let (dir, _) = log_dir();
    let path = dir.path().join("stdout");
    let _pipe = full_pipe(&path);
    let service = start_with_stdout(&google, &path, "1s").await;
    for id in 1..=3 {
        cancel(service.address, id).await.unwrap();
    }
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert!(ended.stderr.contains("the audit log could not be written to the end lost=3"), "{ended:?}");
}
