//! `get` and `list`.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::client_commands::{
    countermand, object,
    server::{Address, serve},
};

const DEVICE: &str = "enterprises/LC01/devices/d1";

#[tokio::test]
async fn get_shows_each_state() {
    let server = serve(Address::Tcp).await;
    for (id, state, error) in [
        ("pending", "pending", ""),
        ("device-done", "done", ""),
        ("cancelled", "cancelled", "error:     CANCELLED\n"),
        ("expired", "failed", "error:     DEADLINE_EXCEEDED: The command expired.\n"),
    ] {
        let block = format!(
            "name:      {DEVICE}/operations/{id}\nstate:     {state}\ntype:      LOCK\n\
             created:   2026-01-02T03:04:05.678Z\nduration:  600s\n{error}"
        );
        let ended = countermand(&format!("get {DEVICE}/operations/{id} --server {server}")).await;
        assert_eq!(ended, (0, block, String::new()));
    }
}

#[tokio::test]
async fn get_prints_the_operation_in_protobufs_json_mapping() {
    let server = serve(Address::Tcp).await;
    let metadata = json!({
        "@type": "type.googleapis.com/google.protobuf.Struct",
        "value": {
            "@type": "type.googleapis.com/google.android.devicemanagement.v1.Command",
            "type": "LOCK",
            "createTime": "2026-01-02T03:04:05.678Z",
            "duration": "600s",
        },
    });
    let empty = json!({"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}});
    for (id, wanted) in [
        ("pending", json!({"metadata": metadata, "done": false})),
        ("bare", json!({"done": false})),
        ("device-done", json!({"metadata": metadata, "done": true, "response": empty})),
        ("cancelled", json!({"metadata": metadata, "done": true, "error": {"code": 1, "message": ""}})),
    ] {
        let name = format!("{DEVICE}/operations/{id}");
        let mut wanted = wanted;
        wanted["name"] = name.clone().into();
        let ended = countermand(&format!("get {name} --server {server} --output json")).await;
        assert_eq!((ended.0, object(&ended)), (0, wanted));
    }
}

#[tokio::test]
async fn a_missing_operation_is_an_error_of_get() {
    let server = serve(Address::Tcp).await;
    let ended = countermand(&format!("get n/gone --server {server}")).await;
    let line = "countermand: NOT_FOUND: Requested entity was not found.\n";
    assert_eq!(ended, (1, String::new(), line.to_owned()));
    let ended = countermand(&format!("get n/gone --server {server} --output json")).await;
    assert_eq!((ended.0, &object(&ended)["code"]), (1, &json!("NOT_FOUND")));
    assert_eq!(object(&ended)["name"], "n/gone");
}

#[tokio::test]
async fn a_list_is_a_table_of_all_pages() {
    let server = serve(Address::Tcp).await;
    for name in [DEVICE.to_owned(), format!("{DEVICE}/operations")] {
        let (code, stdout, stderr) = countermand(&format!("list {name} --server {server}")).await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        let created = "2026-01-02T03:04:05.678Z";
        let wanted = [
            "NAME                                                TYPE  STATE    CREATED                   ERROR",
            &format!("{DEVICE}/operations/pending      LOCK  pending  {created}"),
            &format!("{DEVICE}/operations/device-done  LOCK  done     {created}"),
            &format!("{DEVICE}/operations/cancelled    LOCK  cancelled  {created}  CANCELLED"),
            &format!(
                "{DEVICE}/operations/expired      LOCK  failed     {created}  DEADLINE_EXCEEDED: The command expired."
            ),
            &format!("{DEVICE}/operations/bare         -     pending    -"),
        ];
        assert_eq!(stdout.lines().collect::<Vec<_>>(), wanted);
    }
}

#[tokio::test]
async fn a_list_in_json_has_one_operation_per_line() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("list {DEVICE} --server {server} --output json")).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let operations: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = operations.iter().map(|operation| operation["name"].as_str().unwrap()).collect();
    let wanted = ["pending", "device-done", "cancelled", "expired", "bare"];
    assert_eq!(names, wanted.map(|id| format!("{DEVICE}/operations/{id}")));
    assert_eq!(operations[3]["error"], json!({"code": 4, "message": "The command expired."}));
}

#[tokio::test]
async fn a_limit_ends_the_list_without_another_page() {
    let server = serve(Address::Tcp).await;
    // The second page of this device is an error.
    let name = "enterprises/LC01/devices/two";
    for (limit, lines, code) in [(1, 1, 0), (2, 2, 0), (3, 2, 1)] {
        let line = format!("list {name} --server {server} --output json --limit {limit}");
        let (found, stdout, _) = countermand(&line).await;
        assert_eq!((stdout.lines().count(), found), (lines, code), "{limit}");
    }
}

#[tokio::test]
async fn the_flags_of_a_list_are_sent() {
    let server = serve(Address::Tcp).await;
    for (flags, wanted) in [("", "e/echo  0"), ("--filter done=true --page-size 7", "e/echo done=true 7")] {
        let (code, _, stderr) = countermand(&format!("list e/echo {flags} --server {server}")).await;
        assert_eq!((code, stderr), (1, format!("countermand: INVALID_ARGUMENT: {wanted}\n")));
    }
    for usage in ["list", "list n --limit 0", "list n --page-size 0", "list n --page-size x", "get"] {
        assert_eq!(countermand(usage).await.0, 2, "{usage}");
    }
}

#[tokio::test]
async fn an_error_on_a_later_page_follows_the_earlier_pages() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("list e/breaks --server {server}")).await;
    assert_eq!((code, stdout.lines().count()), (1, 2), "{stdout}");
    assert_eq!(stderr, "countermand: UNAVAILABLE: no more of it\n");
    // Standard output has operations only.
    let (code, stdout, stderr) = countermand(&format!("list e/breaks --server {server} --output json")).await;
    assert_eq!((code, stdout.lines().count()), (1, 1), "{stdout}");
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!((&error["code"], &error["name"]), (&json!("UNAVAILABLE"), &json!("e/breaks")));
}

#[tokio::test]
async fn a_repeated_page_token_is_an_error() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("list e/stuck --server {server} --output json")).await;
    assert_eq!((code, stdout.lines().count()), (1, 2), "{stdout}");
    assert!(
        stderr.contains("the server returned the token of this page as the token of the next page"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_device_without_operations_is_reported_on_standard_error() {
    let server = serve(Address::Tcp).await;
    let ended = countermand(&format!("list e/none --server {server}")).await;
    assert_eq!(ended, (0, String::new(), "no operations\n".to_owned()));
    let ended = countermand(&format!("list e/none --server {server} --output json")).await;
    assert_eq!(ended, (0, String::new(), String::new()));
}

#[tokio::test]
async fn control_characters_of_an_operation_are_escaped() {
    let server = serve(Address::Tcp).await;
    for line in ["get e/hostile", "list e/hostile", "wait e/hostile"] {
        for output in ["text", "json"] {
            let (_, stdout, stderr) =
                countermand(&format!("{line} --server {server} --output {output}")).await;
            let is_unsafe = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!stdout.contains(is_unsafe) && !stderr.contains(is_unsafe), "{stdout:?} {stderr:?}");
            assert!(stdout.contains("\\u001b[2J\\u202e"), "{stdout:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_pipe_causes_no_message() {
    let server = serve(Address::Tcp).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_countermand"))
        .args(["list", DEVICE, "--server", &server])
        .env_clear()
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(1), &b""[..]));
}
