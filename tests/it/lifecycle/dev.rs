//! `countermand dev`: the demonstration, and the suggested commands run as printed.

use std::net::TcpListener;

use nix::sys::signal::Signal::SIGINT;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    lifecycle::{
        DEFAULT_PORT,
        caller::{cancel_by, connect},
    },
    support::process::{Ended, Process, countermand, run},
};

#[tokio::test]
async fn once_prints_a_wipe_before_and_after_its_cancel_and_exits_with_0() {
    let _alone = DEFAULT_PORT.lock().await;
    let ended = run(&mut countermand(&["dev", "--once"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "");
    let (_, rest) = ended.stdout.split_once("Before:\n").unwrap();
    let (before, rest) = rest.split_once("CancelOperation through the proxy:\n  OK\nAfter:\n").unwrap();
    let [before, after]: [Value; 2] = [before, rest].map(|text| serde_json::from_str(text).unwrap());
    assert_eq!(before["metadata"]["type"], "WIPE");
    assert_eq!((&before["done"], &before["error"]), (&Value::Null, &Value::Null));
    assert_eq!((&after["done"], &after["error"]["code"]), (&true.into(), &1.into()));
    assert_eq!(before["name"], after["name"]);
}

#[tokio::test]
async fn every_suggested_command_works_as_printed() {
    let _alone = DEFAULT_PORT.lock().await;
    run_as_printed(start().await).await;
}

#[tokio::test]
async fn dev_binds_another_port_if_the_default_port_is_in_use() {
    let _alone = DEFAULT_PORT.lock().await;
    // If this fails, another process has the port, with the same effect.
    let _listener = TcpListener::bind("127.0.0.1:50051");
    let dev = start().await;
    let text = dev.stdout.text();
    assert!(!text.contains("127.0.0.1:50051"), "{text}");
    let cancels: Vec<_> = text.lines().filter(|line| line.contains(" cancel ")).collect();
    assert!(
        !cancels.is_empty() && cancels.iter().all(|line| line.contains(" --server 127.0.0.1:")),
        "{text}"
    );
    run_as_printed(dev).await;
}

/// Starts `dev` and waits for its last line.
async fn start() -> Process {
    let dev = Process::start(&mut countermand(&["dev"]));
    dev.stdout.has("Ctrl-C ends it.").await;
    dev
}

/// Runs each suggested command for a pending operation, then ends `dev`.
async fn run_as_printed(dev: Process) {
    let text = dev.stdout.text();
    let (_, pending) = text.split_once("Pending operations:\n").unwrap();
    let (pending, lines) = pending.split_once("\n\n").unwrap();
    let mut pending: Vec<_> = pending.lines().map(str::trim).collect();
    let lines: Vec<_> = lines.lines().filter(|line| line.starts_with("  ")).map(str::trim).collect();
    assert!(lines.iter().any(|line| line.starts_with("grpcurl ")), "{text}");
    assert!(lines.iter().any(|line| !line.starts_with("grpcurl ")), "{text}");
    for line in lines {
        let name = pending.iter().position(|name| line.contains(name)).expect("a pending operation");
        let name = pending.remove(name);
        if line.starts_with("grpcurl ") { grpcurl(line, name).await } else { paste(line).await }
    }
    dev.signal(SIGINT);
    let ended = dev.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Runs a line in a shell.
async fn shell(line: &str) -> Ended {
    run(Command::new("sh").args(["-c", line])).await
}

async fn paste(line: &str) {
    let ended = shell(line).await;
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    assert_eq!(ended.stderr, "", "{line}");
}

/// Runs the line if grpcurl is installed, otherwise makes the same call.
async fn grpcurl(line: &str, name: &str) {
    if shell("command -v grpcurl").await.code == Some(0) {
        return paste(line).await;
    }
    let words = shell(&format!("set -- {line}; printf '%s\\n' \"$@\"")).await.stdout;
    let ["grpcurl", "-plaintext", "-d", message, address, method] = words.lines().collect::<Vec<_>>()[..]
    else {
        panic!("{line}: {words}");
    };
    assert_eq!(method, "google.longrunning.Operations/CancelOperation");
    assert_eq!(serde_json::from_str::<Value>(message).unwrap(), serde_json::json!({"name": name}));
    let channel = connect(address.parse().unwrap()).await.unwrap();
    cancel_by(channel, name.to_owned()).await.unwrap();
}
