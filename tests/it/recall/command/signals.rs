//! The report of a recall that a signal stopped.

use std::time::Duration;

use countermand_emulator::Settings;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    recall::{
        command::{has_events, journal, recall, wipe_devices},
        fixture::{emulator, settings, setup, start},
    },
    support::{
        process::{Process, eventually},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
};

/// The signals and their exit codes.
const SIGNALS: [(Signal, i32); 2] = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)];

#[tokio::test]
async fn the_report_so_far_is_printed() {
    for (signal, code) in SIGNALS {
        for format in ["json", "text"] {
            // No cancel takes effect, so the recall does not end before the signal.
            let emulator = emulator(Settings { cancel_delay: Duration::from_secs(3600), ..settings() }).await;
            let service = setup(&emulator).start().await;
            wipe_devices(&emulator, 20, 1);
            let arguments = ["--yes", "--output", format, "--confirm-timeout", "1h"];
            let process = Process::start(&mut recall(service.address, &arguments));
            eventually("a cancel", async || (emulator.control().queries().cancel >= 5).then_some(())).await;
            // The calls in flight hang.
            emulator.control().set_latency(Duration::from_secs(20));
            let before = emulator.control().queries().cancel;
            process.signal(signal);
            let ended = process.end().await;
            assert_eq!(ended.code, Some(code), "{ended:?}");
            assert!(ended.stderr.ends_with("stopped; accepted cancels stay accepted\n"), "{ended:?}");
            if format == "text" {
                assert!(ended.stdout.starts_with("found   "), "{ended:?}");
                assert!(ended.stdout.contains(": stopped before its "), "{ended:?}");
                continue;
            }
            let report: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(
                (&report["interrupted"], &report["summary"]["exit_code"]),
                (&json!(true), &json!(code))
            );
            let operations = report["operations"].as_array().unwrap();
            assert_eq!(json!(operations.len()), report["summary"]["found"]);
            let unknown = operations.iter().filter(|one| one["outcome"] == "UNKNOWN");
            let reasons: Vec<_> = unknown.map(|one| one["reason"].as_str().unwrap()).collect();
            assert_eq!(json!(reasons.len()), report["summary"]["unknown"]);
            // A confirmation follows a cancel by a second, so that most outcomes are not known.
            let sent = reasons.iter().filter(|reason| **reason != "stopped before its cancel").count();
            assert!(sent >= 4 && u64::try_from(sent).unwrap() <= before + 8, "{before} {reasons:?}");
            assert!(reasons.iter().all(|reason| reason.starts_with("stopped before its ")), "{reasons:?}");
        }
    }
}

#[tokio::test]
async fn a_stopped_recall_with_a_journal_has_a_report_but_no_summary_in_the_journal() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 10, 1);
    emulator.control().set_latency(Duration::from_millis(50));
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let arguments = ["--yes", "--output", "json", "--report", path.to_str().unwrap()];
    let process = Process::start(&mut recall(service.address, &arguments));
    has_events(&path, "cancel_accepted", 1).await;
    process.signal(Signal::SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(143), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["interrupted"], json!(true));
    assert!(ended.stderr.ends_with("stopped; run the same command again to continue\n"), "{ended:?}");
    let lines = journal(&path);
    assert!(lines.iter().all(|line| !matches!(line["event"].as_str(), Some("summary" | "outcome"))));
}

#[tokio::test]
async fn a_stopped_dry_run_reports_that_nothing_was_cancelled() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::hanging()]);
    let service = Setup::of(&upstream).start().await;
    let process = Process::start(&mut recall(service.address, &["--dry-run", "--output", "json"]));
    upstream.wait_for_requests(1).await;
    process.signal(Signal::SIGINT);
    let ended = process.end().await;
    let text = "stopped; nothing was cancelled\n";
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(130), "", text));
}
