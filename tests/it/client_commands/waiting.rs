//! `wait` and `cancel --wait`.

use std::process::Stdio;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

use crate::client_commands::{
    countermand, object,
    server::{Address, serve},
};

#[tokio::test]
async fn the_exit_code_of_wait_reports_the_state_of_the_operation() {
    let server = serve(Address::Tcp).await;
    for (id, code, state) in [
        ("device-done", 0, "done"),
        ("cancelled", 3, "cancelled"),
        ("expired", 4, "failed"),
        ("second-response", 0, "done"),
    ] {
        let server = if id == "second-response" { serve(Address::Tcp).await } else { server.clone() };
        let (found, stdout, stderr) = countermand(&format!("wait e/{id} --server {server}")).await;
        assert_eq!((found, stderr), (code, format!("waiting for e/{id}\n")));
        assert!(stdout.contains(&format!("\nstate:     {state}\n")), "{stdout}");
    }
    let ended = countermand(&format!("wait e/cancelled --server {server} --output json")).await;
    assert_eq!((ended.0, &object(&ended)["error"]["code"]), (3, &json!(1)));
}

#[tokio::test]
async fn a_wait_survives_a_draining_server_and_a_broken_connection() {
    for id in ["third-try", "breaks"] {
        let server = serve(Address::Tcp).await;
        let ended = countermand(&format!("wait e/{id} --server {server} --output json")).await;
        assert_eq!((ended.0, &object(&ended)["done"]), (0, &json!(true)), "{id}");
    }
}

#[tokio::test]
async fn a_server_without_wait_operation_is_an_error() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("wait e/no-wait --server {server}")).await;
    let error = "countermand: UNIMPLEMENTED: wait\n";
    assert_eq!((code, stdout, stderr), (1, String::new(), format!("waiting for e/no-wait\n{error}")));
    let (code, stdout, stderr) = countermand(&format!("cancel e/no-wait --wait --server {server}")).await;
    assert_eq!((code, stdout.as_str()), (1, "cancel accepted: e/no-wait\n"));
    assert!(stderr.ends_with(error), "{stderr}");
}

/// The timeout of waits that time out. A tenth of it is enough for the last response on a busy machine.
const WAIT_TIMEOUT: &str = "--timeout 4s";

#[tokio::test]
async fn a_wait_that_times_out_shows_the_latest_state() {
    let server = serve(Address::Tcp).await;
    let line = format!("wait e/hold --server {server} {WAIT_TIMEOUT}");
    let as_json = format!("{line} --output json");
    let ((code, stdout, stderr), ended) = tokio::join!(countermand(&line), countermand(&as_json));
    assert_eq!(code, 5, "{stderr}");
    assert!(stdout.contains("\nstate:     pending\n"), "{stdout}");
    assert_eq!(stderr, "waiting for e/hold\ncountermand: not done after 4s\n");
    assert_eq!((ended.0, &object(&ended)["done"]), (5, &json!(false)));
}

#[tokio::test]
async fn a_wait_without_a_response_is_an_error_with_the_same_code() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("wait e/hang --server {server} --timeout 500ms")).await;
    assert_eq!((code, stdout.as_str()), (5, ""));
    assert!(stderr.ends_with("countermand: DEADLINE_EXCEEDED: no response before the timeout\n"), "{stderr}");
}

#[tokio::test]
async fn a_permanent_error_ends_the_wait() {
    let server = serve(Address::Tcp).await;
    let ended = countermand(&format!("wait e/gone --server {server} --output json")).await;
    assert_eq!((ended.0, &object(&ended)["code"]), (1, &json!("NOT_FOUND")));
    let (code, _, stderr) = countermand(&format!("wait e/gone --server {server}")).await;
    assert_eq!(code, 1);
    assert!(stderr.ends_with("countermand: NOT_FOUND: Requested entity was not found.\n"), "{stderr}");
}

#[tokio::test]
async fn the_exit_code_of_cancel_wait_reports_whether_the_cancel_was_in_time() {
    let server = serve(Address::Tcp).await;
    for (id, code, state) in
        [("cancelled", 0, "cancelled"), ("device-done", 6, "done"), ("expired", 4, "failed")]
    {
        let (found, stdout, stderr) = countermand(&format!("cancel e/{id} --wait --server {server}")).await;
        assert_eq!((found, stderr), (code, format!("waiting for e/{id}\n")));
        assert!(stdout.starts_with(&format!("cancel accepted: e/{id}\nname:      e/{id}\n")), "{stdout}");
        assert!(stdout.contains(&format!("\nstate:     {state}\n")), "{stdout}");
        let ended = countermand(&format!("cancel e/{id} --wait --server {server} --output json")).await;
        assert_eq!((ended.0, &object(&ended)["done"]), (code, &json!(true)));
    }
    let ended =
        countermand(&format!("cancel e/hold --wait {WAIT_TIMEOUT} --server {server} --output json")).await;
    assert_eq!((ended.0, &object(&ended)["done"]), (5, &json!(false)));
}

#[tokio::test]
async fn a_cancel_wait_of_a_done_operation_shows_its_state() {
    let server = serve(Address::Tcp).await;
    for (id, code, state) in [("late-done", 6, "done"), ("late-cancelled", 0, "cancelled")] {
        let (found, stdout, stderr) = countermand(&format!("cancel e/{id} --wait --server {server}")).await;
        assert_eq!((found, stderr.as_str()), (code, ""));
        assert!(stdout.contains(&format!("\nstate:     {state}\n")), "{stdout}");
    }
    // Without --wait, the operation is not read. With --wait, a pending operation keeps the error of the cancel.
    for line in ["cancel e/late-done", "cancel e/late-pending --wait"] {
        let (code, stdout, stderr) = countermand(&format!("{line} --server {server}")).await;
        assert_eq!((code, stdout.as_str()), (1, ""), "{line}");
        assert_eq!(stderr, "countermand: FAILED_PRECONDITION: The operation is already done.\n");
    }
    let ended = countermand(&format!("cancel e/not-found --wait --server {server} --output json")).await;
    assert_eq!((ended.0, &object(&ended)["code"]), (1, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn ctrl_c_stops_a_wait_and_prints_the_state_of_the_operation() {
    let server = serve(Address::Tcp).await;
    for (command, last) in [
        ("wait e/hold", "stopped waiting; the operation continues\n"),
        ("cancel e/hold --wait", "stopped waiting; the cancel was accepted\n"),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_countermand"))
            .args(command.split_whitespace())
            .args(["--server", &server])
            .env_clear()
            .kill_on_drop(true)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).await.unwrap();
        assert_eq!(line, "waiting for e/hold\n");
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).await.unwrap();
        assert_eq!((rest.as_str(), child.wait().await.unwrap().code()), (last, Some(130)));
    }
}

/// Connects a command to a server that never responds, and then sends it a signal.
async fn signalled(command: &str, signal: Signal) -> Option<i32> {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_countermand"))
        .args(command.split_whitespace())
        .args(["--server", &server.local_addr().unwrap().to_string()])
        .env_clear()
        .kill_on_drop(true)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _silent = server.accept().await.unwrap();
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), signal).unwrap();
    child.wait().await.unwrap().code()
}

#[tokio::test]
async fn a_signal_ends_each_client_command_at_once() {
    for command in ["cancel e/1", "cancel e/1 --wait", "get e/1", "list e", "wait e/1", "probe"] {
        assert_eq!(signalled(command, Signal::SIGTERM).await, Some(143), "{command}");
        assert_eq!(signalled(command, Signal::SIGINT).await, Some(130), "{command}");
    }
}
