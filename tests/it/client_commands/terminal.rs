//! The output on a terminal.

use std::{fs::File, io::Read, process::Stdio};

use nix::pty::openpty;
use tokio::{process::Command, task::spawn_blocking};

use crate::client_commands::server::{Address, serve};

/// Runs the program with a terminal as standard output and standard error. Returns the exit code and the output.
async fn on_terminal(line: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let pty = openpty(None, None).unwrap();
    let (output, error) = (pty.slave.try_clone().unwrap(), pty.slave);
    let mut command = Command::new(env!("CARGO_BIN_EXE_countermand"));
    command
        .args(line.split_whitespace())
        .env_clear()
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(error));
    let mut child = command.spawn().unwrap();
    // Closes the terminal's descriptors in this process, so that only the child has them open.
    drop(command);
    let mut master = File::from(pty.master);
    let seen = spawn_blocking(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        // Linux returns EIO when the last descriptor of the other side is closed.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
        }
        seen
    });
    let code = child.wait().await.unwrap().code().unwrap();
    (code, String::from_utf8(seen.await.unwrap()).unwrap())
}

const TERM: (&str, &str) = ("TERM", "xterm");

#[tokio::test]
async fn a_wait_counts_the_seconds_in_one_line_and_erases_it() {
    let server = serve(Address::Tcp).await;
    let (code, seen) = on_terminal(&format!("wait e/second-response --server {server}"), &[TERM]).await;
    assert_eq!(code, 0, "{seen:?}");
    let counted = "\r\u{1b}[Kwaiting for operation second-response (0 s)";
    assert!(seen.starts_with(counted), "{seen:?}");
    let (waiting, result) = seen.rsplit_once("\r\u{1b}[K").unwrap();
    assert!(!waiting.contains('\n'), "{seen:?}");
    assert!(result.starts_with("name:      e/device-done\r\n"), "{seen:?}");
}

#[tokio::test]
async fn a_wait_on_a_dumb_terminal_prints_one_line() {
    let server = serve(Address::Tcp).await;
    let (code, seen) = on_terminal(&format!("wait e/expired --server {server}"), &[("TERM", "dumb")]).await;
    assert_eq!(code, 4, "{seen:?}");
    assert!(seen.starts_with("waiting for e/expired\r\nname:"), "{seen:?}");
    assert!(!seen.contains('\u{1b}'), "{seen:?}");
}

#[tokio::test]
async fn the_header_of_a_list_is_bold_unless_disabled() {
    let server = serve(Address::Tcp).await;
    let line = format!("list e/breaks --server {server} --limit 1");
    let (_, seen) = on_terminal(&line, &[TERM]).await;
    assert!(seen.starts_with("\u{1b}[1mNAME") && seen.contains("ERROR\u{1b}[0m\r\n"), "{seen:?}");
    for variables in [&[TERM, ("NO_COLOR", "1")][..], &[("TERM", "dumb")], &[]] {
        let (code, seen) = on_terminal(&line, variables).await;
        assert_eq!(code, 0);
        assert!(seen.starts_with("NAME") && !seen.contains('\u{1b}'), "{seen:?}");
    }
}
