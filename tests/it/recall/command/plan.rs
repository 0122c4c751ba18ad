//! Dry runs, the question, and usage errors.

use std::{
    fs::File,
    io::{Read, Write},
    process::Stdio,
    time::Duration,
};

use countermand_emulator::Settings;
use nix::{
    pty::{OpenptyResult, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::{
    recall::{
        command::{at_a_terminal, has_events, recall, run, wipe_devices},
        fixture::{device, emulator, settings, setup, start, wipe},
    },
    support::{
        process::{Process, countermand},
        with_timeout,
    },
};

#[tokio::test]
async fn a_dry_run_prints_and_cancels_nothing() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 12, 2);
    let ended = run(&mut recall(service.address, &["--dry-run"])).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let mut lines = ended.stdout.lines();
    let first = "24 pending operations of type WIPE on all devices of enterprises/LC01";
    assert_eq!((lines.next(), lines.next()), (Some(first), Some("       24  WIPE")));
    assert!(ended.stdout.contains("        2  enterprises/LC01/devices/d0000\n"), "{ended:?}");
    let one = run(&mut recall(service.address, &["--dry-run", "--device", "d0000"])).await;
    assert!(one.stdout.contains("\non 1 device:\n"), "{one:?}");
    let ended = run(&mut recall(service.address, &["--dry-run", "--output", "json"])).await;
    let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&plan["found"], &plan["types"]), (&json!(24), &json!({"WIPE": 24})));
    assert_eq!(plan["operations"].as_array().unwrap().len(), 24);
    let queries = emulator.control().queries();
    assert_eq!((queries.cancel, emulator.control().pending().len()), (0, wipes.len()));
}

/// Runs a recall with a terminal as standard input, and answers the question.
async fn answered(answer: &[u8]) -> (Option<i32>, String, String, usize) {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 3, 1);
    let (process, mut terminal) = at_a_terminal(service.address, &[]);
    process.stderr.has("the newest operations:").await;
    // Nothing is cancelled before the answer.
    assert_eq!(emulator.control().queries().cancel, 0);
    terminal.write_all(answer).unwrap();
    let ended = process.end().await;
    (ended.code, ended.stdout, ended.stderr, emulator.control().pending().len())
}

#[tokio::test]
async fn the_answer_yes_cancels() {
    for answer in [&b"y\n"[..], b"YES\n"] {
        let (code, stdout, stderr, pending) = answered(answer).await;
        assert_eq!((code, pending), (Some(0), 0), "{stdout} {stderr}");
        assert!(stderr.contains("3 pending operations of type WIPE"), "{stderr}");
        assert!(stderr.contains("Cancel 3 operations? [y/N] "), "{stderr}");
        assert!(stdout.contains("cancelled       3\n"), "{stdout}");
    }
}

#[tokio::test]
async fn another_answer_cancels_nothing() {
    // The last ones are not UTF-8, and the end of the input.
    for answer in [&b"n\n"[..], b"\n", b"x\n", b"\xff\n", b"\x04"] {
        let (code, stdout, stderr, pending) = answered(answer).await;
        assert_eq!((code, stdout.as_str(), pending), (Some(1), "", 3), "{stderr}");
        assert!(stderr.ends_with("nothing was cancelled\n"), "{stderr}");
        // The terminal shows the end of an answer.
        let has_end = stderr.contains("[y/N] \nnothing");
        assert_eq!(has_end, [&b"\xff\n"[..], b"\x04"].contains(&answer), "{stderr}");
    }
}

#[tokio::test]
async fn a_signal_at_the_question_ends_its_line_and_cancels_nothing() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 1, 1);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let mut command = recall(service.address, &[]);
    command.stdin(slave.try_clone().unwrap()).stdout(Stdio::null()).stderr(slave);
    let child = command.kill_on_drop(true).spawn().unwrap();
    // Closes the terminal's descriptors in this process, so that only the child has them open.
    drop(command);
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    let seen = spawn_blocking(move || {
        let (mut seen, mut terminal, mut part) = (Vec::new(), File::from(master), [0; 4096]);
        while !seen.ends_with(b"[y/N] ") {
            let count = terminal.read(&mut part).unwrap();
            seen.extend(&part[..count]);
        }
        kill(id, Signal::SIGINT).unwrap();
        // Linux returns EIO when the last descriptor of the other side is closed.
        let _ = terminal.read_to_end(&mut seen);
        String::from_utf8(seen).unwrap()
    });
    let output = with_timeout("the recall", child.wait_with_output()).await.unwrap();
    let seen = seen.await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{seen}");
    let end = "Cancel 1 operation? [y/N] \r\nstopped; nothing was cancelled\r\n";
    assert!(seen.ends_with(end), "{seen:?}");
    assert_eq!(emulator.control().queries().cancel, 0);
}

#[tokio::test]
async fn a_resumed_recall_asks_before_it_waits_for_the_outcomes_of_accepted_cancels() {
    // A cancel takes effect after the test.
    let emulator = emulator(Settings { cancel_delay: Duration::from_secs(3600), ..settings() }).await;
    let service = setup(&emulator).start().await;
    wipe_devices(&emulator, 1, 2);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let report = ["--confirm-timeout", "1h", "--report", path.to_str().unwrap()];
    let first = Process::start(recall(service.address, &report).arg("--yes"));
    has_events(&path, "cancel_accepted", 2).await;
    first.signal(Signal::SIGKILL);
    first.end().await;
    let new = wipe(&emulator, &device(0), 1).remove(0);
    let (process, mut terminal) = at_a_terminal(service.address, &report);
    process.stderr.has(&new).await;
    terminal.write_all(b"n\n").unwrap();
    let ended = process.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("resumes with 2 operations of earlier runs"), "{ended:?}");
    assert!(ended.stderr.contains("Cancel 1 operation? [y/N] "), "{ended:?}");
    assert_eq!(emulator.control().queries().cancel, 2);

    // After a yes, the accepted cancels are confirmed too.
    let arguments = [&report[2..], &["--confirm-timeout", "1s", "--output", "json"]].concat();
    let (process, mut terminal) = at_a_terminal(service.address, &arguments);
    process.stderr.has(&new).await;
    terminal.write_all(b"y\n").unwrap();
    let ended = process.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["summary"]["unknown"], json!(3), "{report}");
    assert_eq!(emulator.control().queries().cancel, 3);
}

#[tokio::test]
async fn usage_errors_are_2() {
    for (arguments, part) in [
        ("--enterprise LC01 --yes", "--type"),
        ("--enterprise LC01 --type WIPE --all-types --yes", "cannot be used with"),
        ("--enterprise LC01 --type WIPE", "standard input is not a terminal"),
        ("--enterprise LC01 --type wipe --yes", "capital letters"),
        ("--enterprise - --type WIPE --yes", "enterprise"),
        ("--type WIPE --yes", "--enterprise"),
        ("--enterprise LC01 --type WIPE --device a/b --yes", "--device"),
        ("--enterprise LC01 --type WIPE --device enterprises/LC02/devices/d1 --yes", "LC02"),
        ("--enterprise LC01 --type WIPE --since yesterday --yes", "give a duration before now"),
        ("--enterprise LC01 --type WIPE --dry-run --yes", "cannot be used with"),
        ("--enterprise LC01 --type WIPE --dry-run --report f", "cannot be used with"),
    ] {
        let arguments: Vec<_> = std::iter::once("recall").chain(arguments.split_whitespace()).collect();
        let ended = run(&mut countermand(&arguments)).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ended.stderr.contains(part), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_terminal_shows_a_bar_that_is_erased_at_the_end() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 10, 4);
    emulator.control().set_latency(Duration::from_millis(100));
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let mut command = recall(service.address, &["--yes"]);
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(slave));
    let child = command.kill_on_drop(true).spawn().unwrap();
    // Closes the terminal's descriptor in this process, so that only the child has it open.
    drop(command);
    let seen = spawn_blocking(move || {
        let (mut seen, mut master) = (Vec::new(), File::from(master));
        // Linux returns EIO when the last descriptor of the other side is closed.
        let _ = master.read_to_end(&mut seen);
        String::from_utf8(seen).unwrap()
    });
    let output = with_timeout("the recall", child.wait_with_output()).await.unwrap();
    let seen = seen.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{seen:?}");
    let lines: Vec<_> = seen.split("\r\u{1b}[K").collect();
    assert!(lines.len() > 3 && lines.last() == Some(&""), "{seen:?}");
    let shown = |line: &&&str| {
        line.contains("#") && line.contains(" of 40 cancels answered, ") && line.contains(" to go")
    };
    assert!(lines.iter().any(|line| shown(&line)), "{seen:?}");
    assert!(!seen.contains('\n'), "{seen:?}");
}
