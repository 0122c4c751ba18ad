//! API calls and their responses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countermand_emulator::{Emulator, Fault, Queries, Quota, Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::emulator::client::{BOTH, Client, DEVICE, Protocol, send, start};

#[tokio::test]
async fn a_command_is_issued_read_and_cancelled() {
    for protocol in BOTH {
        let emulator = start(Settings::default()).await;
        let client = Client::new(&emulator, protocol).await;
        let issued = client.issue(DEVICE, &json!({ "type": "WIPE", "duration": "90s" })).await.json();
        assert_eq!(issued["metadata"]["type"], "WIPE");
        assert_eq!(issued["metadata"]["duration"], "90s");
        let name = issued["name"].as_str().unwrap();
        assert_eq!(client.get(name).await.json(), issued);
        assert_eq!(
            client.get(&format!("{DEVICE}/operations")).await.json(),
            json!({ "operations": [issued] })
        );
        assert_eq!(emulator.control().pending(), [name]);

        let cancelled = client.cancel(name).await;
        assert_eq!((cancelled.status, cancelled.json()), (200, json!({})));
        let after = client.get(name).await.json();
        assert_eq!((&after["done"], &after["error"]["code"]), (&json!(true), &json!(1)));
        assert_eq!(Some(after), emulator.control().operation(name));
        assert_eq!(client.cancel(name).await.error(), (400, "FAILED_PRECONDITION".to_owned()));

        let counted = Queries { issue: 1, get: 2, list: 1, cancel: 2, token: 1, ..Queries::default() };
        assert_eq!(emulator.control().queries(), counted, "{protocol:?}");
        emulator.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_list_has_pages() {
    let emulator = start(Settings::default()).await;
    let client = Client::new(&emulator, Protocol::Http2).await;
    let issue = |_| emulator.control().issue_command(DEVICE, json!({ "type": "LOCK" })).unwrap();
    let issued: Vec<Value> = (0..5).map(issue).collect();
    let first = client.get(&format!("{DEVICE}/operations?pageSize=3&alt=json")).await.json();
    assert_eq!(first["operations"], json!(issued[..3]));
    let token = first["nextPageToken"].as_str().unwrap();
    let second = client.get(&format!("{DEVICE}/operations?pageSize=3&pageToken={token}")).await.json();
    assert_eq!(second, json!({ "operations": issued[3..] }));
}

#[tokio::test]
async fn an_invalid_call_gets_googles_error() {
    let emulator = start(Settings::default()).await;
    for protocol in BOTH {
        let client = Client::new(&emulator, protocol).await;
        let name = client.lock(DEVICE).await;
        let unknown = format!("{DEVICE}/operations/1");
        let not_found = (404, "NOT_FOUND".to_owned());
        assert_eq!(client.get(&unknown).await.error(), not_found);
        assert_eq!(client.cancel(&unknown).await.error(), not_found);
        assert_eq!(client.get("enterprises/LC01/devices/none/operations").await.error(), not_found);

        let invalid = (400, "INVALID_ARGUMENT".to_owned());
        assert_eq!(client.issue(DEVICE, &json!({ "type": "DANCE" })).await.error(), invalid);
        assert_eq!(client.get(&format!("{name}?page_size=1")).await.error(), invalid);
        let post = |path: String| client.request(Method::POST, &path);
        let cancel = || post(format!("{name}:cancel"));
        let issue = || post(format!("{DEVICE}:issueCommand"));
        let json_type = ("content-type", "application/json");
        for bad in [
            cancel().body("{\"name\": 1}"),
            cancel().body("x"),
            issue().header(json_type.0, json_type.1).body("{\"type\":"),
            issue().header(json_type.0, json_type.1).header("content-length", "0"),
            issue().header(json_type.0, json_type.1).body(vec![0xff; 8]),
            issue().header(json_type.0, json_type.1).body("[".repeat(100_000)),
            issue().header(json_type.0, json_type.1).body(vec![b' '; 1024 * 1024 + 1]),
            issue().header(json_type.0, "text/plain").body("{\"type\":\"LOCK\"}"),
        ] {
            assert_eq!(send(bad).await.unwrap().error(), invalid, "{protocol:?}");
        }
        let empty_message = send(cancel().body(" {} ")).await.unwrap();
        assert_eq!(empty_message.status, 200, "{empty_message:?}");
    }
}

#[tokio::test]
async fn an_unknown_path_gets_googles_error_page() {
    let emulator = start(Settings::default()).await;
    let client = Client::new(&emulator, Protocol::Http1).await;
    for (method, path, status) in [
        (Method::GET, "operations/17".to_owned(), 404),
        (Method::GET, format!("{DEVICE}/operations/17/more"), 404),
        (Method::DELETE, format!("{DEVICE}/operations/17"), 404),
        (Method::GET, "enterprises/%zz/devices/d1/operations".to_owned(), 400),
    ] {
        let page = send(client.request(method, &path)).await.unwrap();
        assert_eq!((page.status, &*page.content_type), (status, "text/html; charset=UTF-8"), "{path}");
        assert!(page.text.contains(&format!("<b>{status}.</b>")), "{page:?}");
    }
}

#[tokio::test]
async fn a_call_requires_a_valid_token() {
    let emulator = start(Settings::default()).await;
    let mut client = Client::new(&emulator, Protocol::Http2).await;
    let name = client.lock(DEVICE).await;
    let rejected = (401, "UNAUTHENTICATED".to_owned());

    emulator.control().revoke_tokens();
    let expired = client.cancel(&name).await;
    assert_eq!((expired.error(), &*expired.reason()), (rejected.clone(), "ACCESS_TOKEN_EXPIRED"));
    client.token = "ya29.c.invented".to_owned();
    let unknown = client.cancel(&name).await;
    assert_eq!((unknown.error(), &*unknown.reason()), (rejected.clone(), "ACCESS_TOKEN_TYPE_UNSUPPORTED"));
    let url = format!("{}/v1/{name}", client.url);
    let missing = send(client.http.get(url)).await.unwrap();
    assert_eq!((missing.error(), &*missing.reason()), (rejected, "CREDENTIALS_MISSING"));

    assert_eq!(emulator.control().pending(), [&*name]);
    let renewed = Client::new(&emulator, Protocol::Http2).await;
    assert_eq!(renewed.cancel(&name).await.status, 200);
}

#[tokio::test]
async fn each_api_call_appends_its_time_and_status_to_the_call_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("calls.jsonl");
    let unix_time = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = unix_time();
    let mut name = String::new();
    for _ in 0..2 {
        let quota = Quota { queries: Some(3), window: Duration::from_secs(3600) };
        let emulator = start(Settings { quota, call_log: Some(file.clone()), ..Settings::default() }).await;
        let client = Client::new(&emulator, Protocol::Http2).await;
        name = client.lock(DEVICE).await;
        client.get(&format!("{DEVICE}/operations")).await;
        client.get(&name).await;
        client.cancel(&name).await;
        emulator.control().fail_next(1, Fault::Reset);
        assert!(send(client.request(Method::GET, &name)).await.is_err());
        emulator.shutdown().await.unwrap();
    }
    let lines = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The second emulator appends to the lines of the first.
    assert_eq!(lines.len(), 10);
    let lines = lines.split_off(5);
    let times: Vec<f64> = lines.iter().map(|line| line["time"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && before < times[0] && times[4] < unix_time(), "{times:?}");
    let calls: Vec<_> = lines
        .iter()
        .map(|line| {
            (line["method"].as_str().unwrap(), line["name"].as_str().unwrap(), line["status"].as_u64())
        })
        .collect();
    let wanted = [
        ("issue", DEVICE, Some(200)),
        ("list", DEVICE, Some(200)),
        ("get", &*name, Some(200)),
        // The quota is exhausted.
        ("cancel", &*name, Some(429)),
        ("get", &*name, None),
    ];
    assert_eq!(calls, wanted);
}

#[tokio::test]
async fn an_emulator_whose_call_log_cannot_be_opened_does_not_start() {
    let settings = Settings { call_log: Some("/nowhere/calls.jsonl".into()), ..Settings::default() };
    let error = Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere/calls.jsonl"), "{error}");
}
