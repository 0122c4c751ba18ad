//! Arguments that select nothing, or probably nothing.

use std::fs;

use crate::{
    recall::{
        command::{recall, run},
        fixture::start,
    },
    support::process::countermand,
};

#[tokio::test]
async fn arguments_that_select_nothing_are_2_before_any_connection() {
    // No server has this address.
    let unused = "127.0.0.1:1";
    for (arguments, message) in [
        (
            "--enterprise LC01 --since 2026-01-02T00:00:00Z --until 2026-01-01T00:00:00Z",
            "countermand: --since 2026-01-02T00:00:00Z is later than --until 2026-01-01T00:00:00Z, so no command can \
             match; a duration counts back from now\n",
        ),
        (
            "--enterprise LC01 --since 15m --until 1h",
            "countermand: --since 15m is later than --until 1h, so no command can match; a duration counts back from \
             now\n",
        ),
        (
            "--enterprise LC01 --since 9000-01-01T00:00:00Z",
            "countermand: --since 9000-01-01T00:00:00Z is in the future, so no command can match\n",
        ),
        (
            "--enterprise LC01 --device -",
            "countermand: --device: the wildcard - is not accepted; omit --device to select all devices\n",
        ),
        (
            "--enterprise LC01 --device enterprises/LC01/devices/-",
            "countermand: --device: the wildcard - is not accepted; omit --device to select all devices\n",
        ),
        (
            "--enterprise -",
            "error: invalid value '-' for '--enterprise <ENTERPRISE>': give one enterprise; the wildcard - is not \
             accepted\n",
        ),
        (
            "--enterprise enterprises/LC01/devices/d1",
            "error: invalid value 'enterprises/LC01/devices/d1' for '--enterprise <ENTERPRISE>': give the enterprise \
             alone; --device selects a device\n",
        ),
        (
            "--enterprise LC01/devices/d1",
            "error: invalid value 'LC01/devices/d1' for '--enterprise <ENTERPRISE>': give the enterprise alone; \
             --device selects a device\n",
        ),
    ] {
        let mut command = countermand(&["recall", "--type", "WIPE", "--yes", "--server", unused]);
        let ended = run(command.args(arguments.split_whitespace())).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments}");
        assert!(ended.stderr.starts_with(message), "{arguments}: {ended:?}");
    }
}

#[tokio::test]
async fn an_unknown_type_is_a_warning() {
    let (_emulator, service) = start().await;
    let ended = run(&mut recall(service.address, &["--type", "WIPPE", "--yes"])).await;
    let warning =
        "countermand: WIPPE is not a type that this version knows: a misspelt type matches nothing\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), warning), "{ended:?}");
    assert!(ended.stdout.starts_with("no pending operations of type WIPE, WIPPE"), "{ended:?}");
}

#[tokio::test]
async fn a_resumed_recall_has_the_times_of_its_first_run() {
    let (_emulator, service) = start().await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("recall.jsonl");
    // An hour before the first run was earlier than the other time, and an hour before now is later.
    let (past, future) = ("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    let arguments = |until| ["--since", "1h", "--until", until, "--yes", "--report", path.to_str().unwrap()];
    let first = run(&mut recall(service.address, &arguments(future))).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    // Without its summary, the recall is not finished.
    let text = fs::read_to_string(&path).unwrap().replace(future, past);
    fs::write(&path, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    let resumed = run(&mut recall(service.address, &arguments(past))).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    // An empty file is no journal.
    fs::write(&path, "").unwrap();
    let new = run(&mut recall(service.address, &arguments(past))).await;
    assert_eq!(new.code, Some(2), "{new:?}");
    assert!(new.stderr.starts_with("countermand: --since 1h is later than --until 2026-01-01"), "{new:?}");
}
