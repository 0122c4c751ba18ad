//! The commands `recall` and `list --watch`, as processes.

mod arguments;
mod failures;
mod many;
mod outcomes;
mod plan;
mod resume;
mod retries;
mod signals;
mod watch;

use std::{collections::BTreeMap, fs::File, net::SocketAddr, path::Path, process::Stdio};

use countermand_emulator::Emulator;
use nix::pty::{OpenptyResult, openpty};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    recall::fixture::{device, wipe},
    support::process::{Ended, Process, countermand, eventually},
};

/// A recall of the WIPEs of the enterprise, with further arguments.
fn recall(server: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = countermand(&["recall", "--enterprise", "LC01", "--type", "WIPE"]);
    command.args(["--server", &server.to_string()]).args(arguments);
    command
}

/// A recall with a terminal as standard input. Returns the process and the other side of the terminal.
fn at_a_terminal(server: SocketAddr, arguments: &[&str]) -> (Process, File) {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let process = Process::start_with_stdin(&mut recall(server, arguments), Stdio::from(slave));
    (process, File::from(master))
}

async fn run(command: &mut Command) -> Ended {
    Process::start(command).end().await
}

/// Issues WIPEs to devices, and returns the names of the operations.
fn wipe_devices(emulator: &Emulator, devices: usize, count: usize) -> Vec<String> {
    (0..devices).flat_map(|number| wipe(emulator, &device(number), count)).collect()
}

/// The complete lines of a journal.
fn journal(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes a journal of a recall of all devices' WIPEs: its first line, and these.
fn write_journal(path: &Path, time: &str, lines: &[Value]) {
    let selection = json!({
        "enterprise": "enterprises/LC01", "devices": [], "types": ["WIPE"], "since": null, "until": null
    });
    // A journal begins with `event` and `version`.
    let first =
        format!(r#"{{"event":"selection","version":1,"time":"{time}","selection":{selection}}}"#) + "\n";
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, first + &lines).unwrap();
}

/// The names in the lines of an event.
fn names_of(journal: &[Value], event: &str) -> Vec<String> {
    let lines = journal.iter().filter(|line| line["event"] == event);
    lines.map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

/// The outcomes of all operations, which must have one line each.
#[track_caller]
fn outcomes(journal: &[Value]) -> BTreeMap<String, String> {
    let mut outcomes = BTreeMap::new();
    for line in journal.iter().filter(|line| line["event"] == "outcome") {
        let (name, outcome) = (line["name"].as_str().unwrap(), line["outcome"].as_str().unwrap());
        let earlier = outcomes.insert(name.to_owned(), outcome.to_owned());
        assert_eq!(earlier, None, "{name} has one outcome");
    }
    outcomes
}

/// Waits until a journal has this many lines of an event.
async fn has_events(path: &Path, event: &str, count: usize) {
    let (what, part) = (format!("{count} lines {event}"), format!("{{\"event\":\"{event}\","));
    let written = async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        (text.matches(&part).count() >= count).then_some(())
    };
    eventually(&what, written).await;
}
