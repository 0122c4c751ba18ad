//! The client commands: the built program against a small server of `google.longrunning.Operations`.

mod operations;
mod server;
mod tls;

mod cancel;
mod connecting;
mod probe;
mod reading;
mod terminal;
mod usage;
mod waiting;

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

/// The result of a run: exit code, standard output, standard error.
type Ended = (i32, String, String);

async fn countermand(line: &str) -> Ended {
    run(&line.split_whitespace().collect::<Vec<_>>()).await
}

async fn run(arguments: &[&str]) -> Ended {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_countermand"))
        .args(arguments)
        .env_clear()
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The JSON object on standard output. Standard error must be empty.
fn object((_, stdout, stderr): &Ended) -> Value {
    assert_eq!(stderr, "");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(stdout).unwrap()
}
