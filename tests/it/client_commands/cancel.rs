//! `cancel`.

use serde_json::json;

use crate::client_commands::{
    countermand, object,
    server::{Address, serve},
};

#[tokio::test]
async fn an_accepted_cancel_is_printed() {
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
async fn the_timeout_is_sent_and_enforced() {
    let server = serve(Address::Tcp).await;
    // The server returns the grpc-timeout as the message. Its last letter is the unit.
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
    assert_eq!(stderr, "countermand: DEADLINE_EXCEEDED: no response before the timeout\n");
}
