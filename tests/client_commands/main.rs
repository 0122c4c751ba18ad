//! The client commands as a user runs them: the built program against a small server of the contract.

#![allow(clippy::unwrap_used)]

mod operations;
mod reading;
mod server;
mod terminal;
mod tls;
mod waiting;

use std::process::Output;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
};

use server::{Address, serve};
use tls::Authority;

/// How a run ended: exit code, standard output, standard error.
type Ended = (i32, String, String);

async fn countermand(line: &str) -> Ended {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_countermand"))
        .args(line.split_whitespace())
        .env_clear()
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The one JSON object on standard output of a run that has nothing to say on standard error.
fn object((_, stdout, stderr): &Ended) -> Value {
    assert_eq!(stderr, "");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(stdout).unwrap()
}

#[tokio::test]
async fn a_cancel_that_is_accepted_says_so() {
    let server = serve(Address::Tcp).await;
    let name = "enterprises/LC01/devices/d1/operations/ok";
    let ended = countermand(&format!("cancel {name} --server {server}")).await;
    assert_eq!(ended, (0, format!("cancel accepted: {name}\n"), String::new()));

    let ended = countermand(&format!("cancel {name} --server http://{server}/ --output json")).await;
    assert_eq!(ended.0, 0);
    assert_eq!(object(&ended), json!({"name": name, "code": "OK"}));
}

#[tokio::test]
async fn each_error_is_one_line_on_standard_error() {
    let server = serve(Address::Tcp).await;
    for (name, line) in [
        (
            "not-found",
            "NOT_FOUND: Requested entity was not found. (reason HTTP_404 of androidmanagement.googleapis.com)",
        ),
        (
            "quota",
            "RESOURCE_EXHAUSTED: Quota exceeded (reason RATE_LIMIT_EXCEEDED of \
             androidmanagement.googleapis.com; retry in 7s)",
        ),
        ("invalid", "INVALID_ARGUMENT: not a name (reason INVALID_NAME of countermand; name: has no device)"),
        ("bare", "UNIMPLEMENTED"),
        ("struct", "ABORTED: see the details"),
        ("hostile", "INTERNAL: \\u001b[31mred\\u000d\\nnext line\\u202e"),
    ] {
        let (code, stdout, stderr) = countermand(&format!("cancel {name} --server {server}")).await;
        assert_eq!((code, stdout.as_str()), (1, ""), "{name}");
        assert_eq!(stderr, format!("countermand: {line}\n"), "{name}");
    }
}

#[tokio::test]
async fn each_error_is_one_json_object_on_standard_output() {
    let server = serve(Address::Tcp).await;
    let run = async |name: &str| {
        let ended = countermand(&format!("cancel {name} --server {server} --output json")).await;
        assert_eq!(ended.0, 1, "{name}");
        object(&ended)
    };
    assert_eq!(
        run("not-found").await,
        json!({
            "name": "not-found",
            "code": "NOT_FOUND",
            "message": "Requested entity was not found.",
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "HTTP_404",
                "domain": "androidmanagement.googleapis.com",
            }],
        })
    );
    assert_eq!(
        run("struct").await["details"],
        json!([{"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"@type": "acme.Odd", "n": 1.0}}])
    );
    assert_eq!(run("bare").await["details"], json!([]));
    assert_eq!(run("hostile").await["message"], "\u{1b}[31mred\r\nnext line\u{202e}");
}

#[tokio::test]
async fn the_timeout_is_sent_and_is_held_to_here_as_well() {
    let server = serve(Address::Tcp).await;
    // This handler answers with the grpc-timeout that it got; its unit is the last letter.
    let ended = countermand(&format!("cancel echo-timeout --server {server} --output json")).await;
    let sent = object(&ended)["message"].as_str().unwrap().to_owned();
    let (number, unit) = sent.split_at(sent.len() - 1);
    let seconds = number.parse::<f64>().unwrap()
        * match unit {
            "u" => 1e-6,
            "m" => 1e-3,
            "S" => 1.0,
            _ => panic!("{sent}"),
        };
    assert!((1.0..=30.0).contains(&seconds), "{sent}");

    let (code, stdout, stderr) = countermand(&format!("cancel hang --server {server} --timeout 1s")).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "countermand: DEADLINE_EXCEEDED: no answer before the timeout\n");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_69() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let ended = countermand(&format!("cancel n --server {address}")).await;
    assert_eq!((ended.0, ended.1.as_str()), (69, ""));
    let begin = format!("countermand: UNAVAILABLE: {address} cannot be reached: ");
    assert!(ended.2.starts_with(&begin) && ended.2.lines().count() == 1, "{}", ended.2);

    for server in [address.to_string(), "unix:/nowhere/c.sock".to_owned()] {
        let ended = countermand(&format!("cancel n --server {server} --output json")).await;
        assert_eq!(ended.0, 69);
        assert_eq!(object(&ended)["code"], "UNAVAILABLE");
    }
    let (code, _, stderr) = countermand(&format!("probe --server {address}")).await;
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
}

#[tokio::test]
async fn what_is_no_grpc_server_is_unavailable_and_69() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 24];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let ended = countermand(&format!("cancel n --server {address} --output json")).await;
        assert_eq!(ended.0, 69, "{ended:?}");
        assert_eq!(object(&ended)["code"], "UNAVAILABLE");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_unix_socket_is_served_like_any_other() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("c.sock");
    serve(Address::Unix(path.clone())).await;
    for server in [format!("unix:{}", path.display()), format!("unix://{}", path.display())] {
        let (code, stdout, _) = countermand(&format!("cancel ok --server {server}")).await;
        assert_eq!((code, stdout.as_str()), (0, "cancel accepted: ok\n"));
        let (code, stdout, _) = countermand(&format!("probe --server {server}")).await;
        assert_eq!((code, stdout.as_str()), (0, "SERVING\n"));
    }
}

#[tokio::test]
async fn tls_checks_the_server_and_shows_the_client_certificate() {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().display();
    let authority = Authority::new();
    authority.write_client(room.path());
    std::fs::write(room.path().join("other-ca.pem"), Authority::new().pem()).unwrap();
    let server = serve(Address::Tls(authority.acceptor())).await;
    let port = server.rsplit_once(':').unwrap().1;

    let mine = format!("--tls-cert {directory}/client.pem --tls-key {directory}/client.key");
    let ca = format!("--tls-ca {directory}/ca.pem");
    for address in [format!("localhost:{port}"), format!("https://localhost:{port}")] {
        let (code, stdout, stderr) = countermand(&format!("cancel ok --server {address} {ca} {mine}")).await;
        assert_eq!((code, stdout.as_str()), (0, "cancel accepted: ok\n"), "{stderr}");
    }
    let (code, stdout, _) = countermand(&format!("probe --server localhost:{port} {ca} {mine}")).await;
    assert_eq!((code, stdout.as_str()), (0, "SERVING\n"));

    for (flags, cause) in [
        (ca, "--tls-cert"),
        (format!("--tls-ca {directory}/other-ca.pem {mine}"), "invalid peer certificate"),
        (mine, "UnknownIssuer"),
    ] {
        let line = format!("cancel ok --server localhost:{port} {flags} --output json");
        let ended = countermand(&line).await;
        assert_eq!(ended.0, 69, "{line} {ended:?}");
        let object = object(&ended);
        assert_eq!(object["code"], "UNAVAILABLE");
        assert!(object["message"].as_str().unwrap().contains(cause), "{object}");
    }
}

#[tokio::test]
async fn flags_and_files_that_make_no_sense_are_refused_before_any_call() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("empty");
    std::fs::write(&file, "").unwrap();
    let file = file.display();
    for (flags, code) in [
        (format!("--server unix:/s --tls-ca {file}"), 2),
        (format!("--server http://h --tls-ca {file}"), 2),
        (format!("--tls-ca {file}"), 78),
        ("--tls-ca /nowhere/ca.pem".to_owned(), 78),
        (format!("--tls-cert {file} --tls-key {file}"), 78),
    ] {
        let ended = countermand(&format!("cancel n {flags}")).await;
        assert_eq!((ended.0, ended.1.as_str()), (code, ""), "{flags} {ended:?}");
        assert_eq!(ended.2.lines().count(), 1, "{flags} {ended:?}");
        let ended = countermand(&format!("cancel n {flags} --output json")).await;
        assert_eq!(ended.0, code, "{flags}");
        assert_eq!(object(&ended)["name"], "n");
    }
    for usage in [
        "cancel",
        "cancel n --server nowhere",
        "cancel n --timeout 0s",
        "cancel n --output yaml",
        "cancel n --tls-cert c",
        "probe --output json",
        "launch",
    ] {
        assert_eq!(countermand(usage).await.0, 2, "{usage}");
    }
}

#[tokio::test]
async fn a_probe_tells_serving_from_not_serving() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("probe --server {server}")).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "SERVING\n", ""));
    let server = serve(Address::NotServing).await;
    let (code, stdout, stderr) = countermand(&format!("probe --server {server}")).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "countermand: the server says NOT_SERVING\n");
}

#[tokio::test]
async fn a_wrong_configuration_is_78_for_serve_and_1_for_check() {
    for (line, wanted) in [("serve --listen 0.0.0.0:1 --policy p", 78), ("check --config /nowhere.toml", 1)] {
        let (code, stdout, stderr) = countermand(line).await;
        assert_eq!((code, stdout.as_str()), (wanted, ""), "{line}");
        let mut lines = stderr.lines();
        let first = lines.next().unwrap();
        let faults = lines.count();
        let count = if faults == 1 { "1 fault ".to_owned() } else { format!("{faults} faults ") };
        assert!(first.starts_with(&format!("countermand: {count}in the configuration")), "{stderr}");
    }
}
