//! Interrupted recalls: signals, a killed process, a killed server, and the resumed run.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use countermand_emulator::{Emulator, Settings};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{
    recall::{
        command::{
            at_a_terminal, has_events, journal, names_of, outcomes, recall, run, wipe_devices, write_journal,
        },
        fixture::{device, emulator, settings, setup, start, wipe},
    },
    support::{
        process::{Process, countermand, countermand_after, eventually},
        service::Service,
        tls::Authority,
    },
};

fn journal_file() -> (TempDir, PathBuf) {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    (files, path)
}

/// Asserts that the journal has one outcome of each operation, CANCELLED, and that each was cancelled once.
#[track_caller]
fn assert_each_once(emulator: &Emulator, path: &Path, wipes: &[String]) {
    let outcomes = outcomes(&journal(path));
    assert!(outcomes.values().all(|outcome| outcome == "CANCELLED"), "{outcomes:?}");
    let wipes: BTreeSet<_> = wipes.iter().cloned().collect();
    assert_eq!(outcomes.into_keys().collect::<BTreeSet<_>>(), wipes);
    let cancels = emulator.control().cancel_requests();
    assert!(cancels.values().all(|count| *count == 1), "{cancels:?}");
    assert_eq!(cancels.into_keys().collect::<BTreeSet<_>>(), wipes);
    assert!(emulator.control().pending().is_empty());
}

#[tokio::test]
async fn a_killed_recall_resumes_and_cancels_nothing_twice() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 40, 5);
    emulator.control().set_latency(Duration::from_millis(20));
    let (_files, path) = journal_file();
    let arguments = ["--since", "1h", "--yes", "--report", path.to_str().unwrap()];
    for accepted in [20, 90] {
        let process = Process::start(&mut recall(service.address, &arguments));
        has_events(&path, "cancel_accepted", accepted).await;
        process.signal(Signal::SIGKILL);
        assert_eq!(process.end().await.code, None);
    }
    assert!(!emulator.control().pending().is_empty(), "it was killed in the middle");
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("operations of earlier runs"), "{ended:?}");
    assert!(ended.stdout.contains("cancelled     200\n"), "{ended:?}");
    assert_each_once(&emulator, &path, &wipes);

    // A run after the end cancels nothing.
    let before = emulator.control().queries();
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(emulator.control().queries().cancel, before.cancel);
    assert_each_once(&emulator, &path, &wipes);
}

#[tokio::test]
async fn a_resumed_recall_lists_new_operations_before_it_confirms_most_earlier_ones() {
    let emulator = emulator(settings()).await;
    let service = setup(&emulator).quota("limit = 80\nperiod = \"2s\"\nburst = 5").start().await;
    let earlier = wipe_devices(&emulator, 120, 1);
    earlier.iter().for_each(|name| assert!(emulator.control().execute(name)));
    let (_files, path) = journal_file();
    let time = "2026-01-01T00:00:00Z";
    let mut lines = Vec::new();
    for name in &earlier {
        let found = json!({"event": "found", "name": name, "type": "WIPE", "create_time": time});
        let accepted = json!({"event": "cancel_accepted", "name": name, "time": time});
        lines.extend([found, accepted]);
    }
    write_journal(&path, time, &lines);
    for number in 120..140 {
        wipe(&emulator, &device(number), 1);
    }
    // The list needs three seconds to reach the new operations. The confirmations could start after two.
    let ended = run(&mut recall(service.address, &["--yes", "--report", path.to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let journal = journal(&path);
    let new = &journal[lines.len() + 1..];
    // The first page has only devices without pending operations.
    let before_second_page = new.iter().take_while(|line| line["event"] != "found");
    let confirmed = before_second_page.filter(|line| line["event"] == "outcome").count();
    assert!(confirmed <= 16, "{confirmed}");
    assert_eq!(names_of(new, "cancel_accepted").len(), 20);
    assert_eq!(names_of(new, "outcome").len(), 140);
}

#[tokio::test]
async fn signals_end_a_recall_with_a_complete_journal() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let (emulator, service) = start().await;
        let wipes = wipe_devices(&emulator, 20, 5);
        emulator.control().set_latency(Duration::from_millis(20));
        let (_files, path) = journal_file();
        let arguments = ["--yes", "--report", path.to_str().unwrap()];
        let process = Process::start(&mut recall(service.address, &arguments));
        has_events(&path, "cancel_accepted", 5).await;
        // Eight cancels are in flight when the signal comes, and take effect after the start of the next run.
        emulator.control().set_latency(Duration::from_secs(1));
        let before = emulator.control().queries().cancel;
        let in_flight = async || (emulator.control().queries().cancel >= before + 8).then_some(());
        eventually("eight cancels in flight", in_flight).await;
        process.signal(signal);
        let ended = process.end().await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains("stopped; run the same command again to continue"), "{ended:?}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n') && !names_of(&journal(&path), "cancel_accepted").is_empty());
        assert!(!emulator.control().pending().is_empty(), "it was stopped in the middle");
        emulator.control().set_latency(Duration::ZERO);
        // Another replica shares no call with the first one.
        let other = setup(&emulator).start().await;
        let ended = run(&mut recall(other.address, &arguments)).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_each_once(&emulator, &path, &wipes);
    }
}

/// A service process for the API of `emulator` at `listen`, and its address.
pub(super) async fn serve(emulator: &Emulator, files: &TempDir, listen: &str) -> (Process, SocketAddr) {
    fs::write(files.path().join("key.json"), emulator.credentials().expose()).unwrap();
    let mut command = countermand(&["serve", "--listen", listen, "--admin-listen", "off"]);
    command.args(["--credentials", "key.json", "--upstream-url", emulator.url()]).current_dir(files);
    let process = Process::start(&mut command);
    let address = |log: &str| log.split_once(": listening address=")?.1.lines().next()?.parse().ok();
    let address = process.stderr.see(address).await;
    (process, address)
}

#[tokio::test]
async fn a_recall_continues_with_a_restarted_server() {
    let (emulator, _service) = start().await;
    let wipes = wipe_devices(&emulator, 30, 4);
    emulator.control().set_latency(Duration::from_millis(20));
    let (files, path) = journal_file();
    let (server, address) = serve(&emulator, &files, "127.0.0.1:0").await;
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let process = Process::start(&mut recall(address, &arguments));
    has_events(&path, "cancel_accepted", 20).await;
    server.signal(Signal::SIGKILL);
    server.end().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_server, _) = serve(&emulator, &files, &address.to_string()).await;
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let outcomes = outcomes(&journal(&path));
    assert_eq!(outcomes.len(), wipes.len());
    assert!(outcomes.values().all(|outcome| outcome == "CANCELLED"), "{outcomes:?}");
    assert!(emulator.control().pending().is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_at_the_start_is_69_and_leaves_no_file() {
    let (_files, path) = journal_file();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = run(&mut recall(unused, &["--yes", "--report", path.to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_of_another_recall_is_not_used() {
    let (emulator, service) = start().await;
    let (_files, path) = journal_file();
    let report = ["--yes", "--report", path.to_str().unwrap()];
    assert_eq!(run(&mut recall(service.address, &report)).await.code, Some(0));
    let before = fs::read_to_string(&path).unwrap();
    wipe_devices(&emulator, 1, 1);
    for other in [&["--since", "1h"][..], &["--device", "d0000"], &["--type", "LOCK"]] {
        let ended = run(recall(service.address, &report).args(other)).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("the journal of another selection"), "{ended:?}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(emulator.control().queries().cancel, 0);

    fs::write(&path, "{\"a\": 1}\n").unwrap();
    let ended = run(&mut recall(service.address, &report)).await;
    assert_eq!((ended.code, fs::read_to_string(&path).unwrap().as_str()), (Some(2), "{\"a\": 1}\n"));
}

#[tokio::test]
async fn an_operation_that_somebody_added_to_the_journal_is_not_cancelled() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 1, 1);
    let lock = emulator.control().issue_command(&device(0), json!({"type": "LOCK"})).unwrap();
    let (_files, path) = journal_file();
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    assert_eq!(run(&mut recall(service.address, &arguments)).await.code, Some(0));
    let cancels = emulator.control().queries().cancel;
    let found = json!({"event": "found", "name": lock["name"], "type": "LOCK", "create_time": null});
    let text = fs::read_to_string(&path).unwrap() + &format!("{found}\n");
    fs::write(&path, &text).unwrap();
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    let line = format!("the operation of line {} is not one of", text.lines().count());
    assert!(ended.stderr.contains(&line), "{ended:?}");
    assert_eq!((emulator.control().queries().cancel, emulator.control().pending().len()), (cancels, 1));
}

#[tokio::test]
async fn two_processes_cannot_use_one_file() {
    // The first process waits for the outcome longer than the test lasts.
    let emulator = emulator(Settings { cancel_delay: Duration::from_secs(3600), ..settings() }).await;
    let service = setup(&emulator).start().await;
    wipe_devices(&emulator, 1, 1);
    let (_files, path) = journal_file();
    let arguments = ["--yes", "--confirm-timeout", "1h", "--report", path.to_str().unwrap()];
    let first = Process::start(&mut recall(service.address, &arguments));
    has_events(&path, "found", 1).await;
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("another process uses the file"), "{ended:?}");
    drop(first);
}

#[tokio::test]
async fn a_recall_that_another_process_finishes_before_the_connection_is_reported_and_nothing_is_listed() {
    let emulator = emulator(settings()).await;
    let authority = Authority::new();
    let (plain, tls) =
        (setup(&emulator).start().await, setup(&emulator).tls(&authority.server(), None).start().await);
    wipe_devices(&emulator, 2, 1);
    let (files, path) = journal_file();
    let ca = files.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let relayed = listener.local_addr().unwrap();
    let first = Process::start(recall(relayed, &arguments).args(["--tls-ca", ca.to_str().unwrap()]));
    // The first process has seen that there is no file. It waits for the TLS handshake.
    let (mut client, _) = listener.accept().await.unwrap();
    let ended = run(&mut recall(plain.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (before, text) = (emulator.control().queries(), fs::read_to_string(&path).unwrap());
    let mut server = TcpStream::connect(tls.address).await.unwrap();
    let relay = tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
    let ended = first.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains(" is of a recall that finished at "), "{ended:?}");
    assert!(ended.stdout.starts_with("found           2\n"), "{ended:?}");
    let queries = emulator.control().queries();
    assert_eq!((queries.list, fs::read_to_string(&path).unwrap()), (before.list, text));
    relay.abort();
}

#[tokio::test]
async fn operations_of_earlier_runs_are_cancelled_although_their_device_cannot_be_listed() {
    let emulator = emulator(settings()).await;
    let wipes = wipe_devices(&emulator, 2, 1);
    let policy = "permit (principal, action == Action::\"cancel\", resource in Enterprise::\"LC01\");";
    let service = setup(&emulator).policy(policy).start().await;
    let (_files, path) = journal_file();
    let time = "2026-01-01T00:00:00Z";
    let found = |name| json!({"event": "found", "name": name, "type": "WIPE", "create_time": time});
    let sent = json!({"event": "cancel_sent", "name": wipes[1], "time": time});
    write_journal(&path, time, &[found(&wipes[0]), found(&wipes[1]), sent]);
    let arguments = ["--report", path.to_str().unwrap()];

    // The question is about them too.
    let (process, mut terminal) = at_a_terminal(service.address, &arguments);
    process.stderr.has("the newest operations:").await;
    terminal.write_all(b"n\n").unwrap();
    let ended = process.end().await;
    assert!(ended.stderr.contains("Cancel 2 operations? [y/N] "), "{ended:?}");
    assert_eq!((ended.code, emulator.control().queries().cancel), (Some(1), 0), "{ended:?}");

    let ended = run(recall(service.address, &arguments).args(["--yes", "--output", "json"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["summary"]["unknown"], json!(2), "{report}");
    let cancels = emulator.control().cancel_requests();
    assert_eq!(cancels, wipes.into_iter().map(|name| (name, 1)).collect());
    assert!(emulator.control().pending().is_empty());
}

#[tokio::test]
async fn a_failed_operation_is_retried_by_the_next_run() {
    let emulator = emulator(settings()).await;
    let wipes = wipe_devices(&emulator, 3, 1);
    let policy = "permit (principal, action == Action::\"list\", resource in Enterprise::\"LC01\");\n\
                  permit (principal, action, resource in Device::\"LC01/d0001\");";
    let service = setup(&emulator).policy(policy).start().await;
    let (_files, path) = journal_file();
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(emulator.control().cancel_requests().into_keys().collect::<Vec<_>>(), [wipes[1].clone()]);
    let permissive = setup(&emulator).start().await;
    let ended = run(&mut recall(permissive.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let cancels = emulator.control().cancel_requests();
    assert_eq!(
        cancels.into_iter().collect::<Vec<_>>(),
        wipes.into_iter().map(|name| (name, 1)).collect::<Vec<_>>()
    );
    assert!(emulator.control().pending().is_empty());
}

#[tokio::test]
async fn a_finished_recall_is_reported_again_and_nothing_is_listed() {
    for (is_executed, code) in [(false, 0), (true, 6)] {
        let (emulator, service) = start().await;
        let wipes = wipe_devices(&emulator, 2, 1);
        let (_files, path) = journal_file();
        let arguments = ["--since", "1h", "--yes", "--report", path.to_str().unwrap()];
        let json_arguments = [&arguments[..], &["--output", "json"]].concat();
        if is_executed {
            decline(&service, &arguments).await;
            assert!(emulator.control().execute(&wipes[0]));
        }
        let first = run(&mut recall(service.address, &json_arguments)).await;
        assert_eq!(first.code, Some(code), "{first:?}");
        // Both are intended, and not older than an hour before the first run.
        wipe_devices(&emulator, 2, 1);
        let (before, text) = (emulator.control().queries(), fs::read_to_string(&path).unwrap());
        let again = run(&mut recall(service.address, &json_arguments)).await;
        let lines = journal(&path);
        let message = format!(
            "countermand: {} is of a recall that finished at {}; nothing was listed. Give another file for a new recall\n",
            path.display(),
            lines.last().unwrap()["time"].as_str().unwrap()
        );
        assert_eq!((again.code, again.stderr), (Some(code), message.clone()));
        let (first, mut report): (Value, Value) =
            (serde_json::from_str(&first.stdout).unwrap(), serde_json::from_str(&again.stdout).unwrap());
        assert_eq!(report["ended"], lines.last().unwrap()["time"]);
        report["ended"] = first["ended"].clone();
        assert_eq!(report, first);
        // No server is needed.
        let text_report = run(&mut recall("127.0.0.1:1".parse().unwrap(), &arguments)).await;
        assert_eq!((text_report.code, text_report.stderr), (Some(code), message));
        assert!(text_report.stdout.starts_with("found           2\n"), "{}", text_report.stdout);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let queries = emulator.control().queries();
        assert_eq!((queries.list, queries.cancel), (before.list, before.cancel));
        assert_eq!(emulator.control().pending().len(), 2);
    }
}

/// A recall whose question is answered with no.
async fn decline(service: &Service, arguments: &[&str]) {
    let arguments: Vec<_> = arguments.iter().copied().filter(|argument| *argument != "--yes").collect();
    let (process, mut terminal) = at_a_terminal(service.address, &arguments);
    process.stderr.has("the newest operations:").await;
    terminal.write_all(b"n\n").unwrap();
    assert_eq!(process.end().await.code, Some(1));
}

#[tokio::test]
async fn an_operation_that_its_device_ran_before_any_cancel_is_reported_so() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 2, 1);
    let (_files, path) = journal_file();
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    decline(&service, &arguments).await;
    assert!(emulator.control().execute(&wipes[0]));
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let line = format!("\ntoo late: {}: done before a cancel was sent\n", wipes[0]);
    assert!(ended.stdout.contains(&line), "{ended:?}");
    assert_eq!(emulator.control().cancel_requests().into_keys().collect::<Vec<_>>(), wipes[1..]);
}

#[tokio::test]
async fn a_resumed_recall_names_the_first_run_and_its_times_also_without_operations() {
    let (_emulator, service) = start().await;
    let (_files, path) = journal_file();
    let arguments = ["--since", "1h", "--yes", "--report", path.to_str().unwrap()];
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    // As if the recall was stopped at its start.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    let first = &journal(&path)[0];
    let (started, since) = (first["time"].as_str().unwrap(), &first["selection"]["since"]["time"]);
    let ended = run(recall(service.address, &arguments).args(["--output", "json"])).await;
    let message = format!(
        "resumes with 0 operations of earlier runs; the first run began at {started} and selects operations of type \
         WIPE on all devices of enterprises/LC01 since {}\n",
        since.as_str().unwrap()
    );
    assert_eq!((ended.code, ended.stderr), (Some(0), message));
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["started"], started);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_the_recall_and_the_next_run_continues() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 10, 1);
    let (_files, path) = journal_file();
    let server = service.address.to_string();
    let words =
        ["recall", "--enterprise", "LC01", "--type", "WIPE", "--yes", "--server", &server, "--report"];
    // The lines of the operations need 2 KiB, and those of the cancels more than another one. The unit is 512 bytes.
    let mut command = countermand_after("trap '' XFSZ; ulimit -f 6", &words);
    let ended = run(command.arg(&path).args(["--output", "json"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let message = "countermand: stopped, because the journal cannot be written: File too large (os error 27); free \
                   space and run the same command again\n";
    assert!(ended.stderr.ends_with(message), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&report["interrupted"], &report["summary"]["exit_code"]), (&json!(true), &json!(1)));
    assert_eq!(report["operations"].as_array().unwrap().len(), wipes.len());
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_each_once(&emulator, &path, &wipes);
}
