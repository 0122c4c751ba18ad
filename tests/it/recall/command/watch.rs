//! `list --watch`, and lists over all devices with a filter.

use countermand_emulator::{DeviceFault, Fault};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    recall::{
        command::{resume::serve, run, wipe_devices},
        fixture::{ALL, device, emulator, settings, start, wipe},
    },
    support::{
        process::{Process, countermand, eventually},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
};

/// The members of events that do not depend on the time.
fn events(lines: &str) -> Vec<(String, String)> {
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let member = |name: &str| event[name].as_str().unwrap().to_owned();
        (member("event"), member("name"))
    };
    lines.lines().map(event).collect()
}

fn event(event: &str, name: &str) -> (String, String) {
    (event.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_shows_operations_as_they_come_and_go() {
    let (emulator, service) = start().await;
    let first = wipe_devices(&emulator, 2, 1);
    let server = service.address.to_string();
    let arguments = ["list", ALL, "--server", &server, "--filter", "done = false", "--watch"];
    let process = Process::start(countermand(&arguments).args(["--interval", "100ms"]));
    for name in &first {
        process.stdout.has(&format!("appeared  pending    WIPE  {name}\n")).await;
    }
    let second = wipe(&emulator, &device(7), 1).remove(0);
    process.stdout.has(&format!("appeared  pending    WIPE  {second}\n")).await;
    service.cancel(&first[0]).await.unwrap();
    process.stdout.has(&format!("finished  cancelled  WIPE  {}\n", first[0])).await;
    emulator.control().execute(&first[1]);
    process.stdout.has(&format!("finished  done       WIPE  {}\n", first[1])).await;
    emulator.control().delete_device(&device(7));
    process.stdout.has(&format!("gone      -          -  {second}\n")).await;
    process.signal(Signal::SIGINT);
    let ended = process.end().await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(130), 6), "{ended:?}");
}

#[tokio::test]
async fn a_watch_of_one_device_survives_a_failure() {
    let (emulator, service) = start().await;
    let name = wipe(&emulator, &device(0), 1).remove(0);
    let server = service.address.to_string();
    let device = device(0);
    let arguments = ["list", &device, "--server", &server, "--watch", "--output", "json"];
    let process = Process::start(countermand(&arguments).args(["--interval", "50ms"]));
    process.stdout.has("\"appeared\"").await;
    emulator.control().fail_next(8, countermand_emulator::Fault::Unavailable);
    process.stderr.has("countermand: UNAVAILABLE").await;
    // The cancel may get one of the failures.
    eventually("a cancel", async || service.cancel(&name).await.ok()).await;
    process.stdout.has("\"finished\"").await;
    let lines: Vec<Value> =
        process.stdout.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), lines[1]["name"].as_str()), (2, Some(name.as_str())));
    assert_eq!(lines[1]["operation"]["error"]["code"], 1);
}

#[tokio::test]
async fn a_watch_shows_when_a_device_becomes_unreadable_and_when_it_is_readable_again() {
    let (emulator, service) = start().await;
    let first = wipe_devices(&emulator, 3, 1);
    let server = service.address.to_string();
    let watch = |output: &str| {
        let arguments = ["list", ALL, "--server", &server, "--watch", "--output", output];
        Process::start(countermand(&arguments).args(["--interval", "20ms"]))
    };
    let (text, json) = (watch("text"), watch("json"));
    for name in &first {
        text.stdout.has(name).await;
        json.stdout.has(name).await;
    }
    let failing = device(1);
    emulator.control().set_device_fault(&failing, Some(DeviceFault::Failing(Fault::Unavailable)));
    text.stderr.has(&format!("countermand: not listed: {failing}\n")).await;
    json.stdout.has("\"unreachable\"").await;
    // Each watch polls again and prints the next change only.
    let second = wipe(&emulator, &device(0), 1).remove(0);
    text.stdout.has(&second).await;
    json.stdout.has(&second).await;
    emulator.control().set_device_fault(&failing, None);
    text.stderr.has(&format!("countermand: listed again: {failing}\n")).await;
    json.stdout.has("\"reachable\"").await;
    // The operation of the device is still known as pending.
    emulator.control().execute(&first[1]);
    text.stdout.has(&format!("finished  done       WIPE  {}\n", first[1])).await;
    json.stdout.has("\"finished\"").await;
    text.signal(Signal::SIGINT);
    json.signal(Signal::SIGINT);
    let (text, json) = (text.end().await, json.end().await);
    assert_eq!((text.stdout.lines().count(), text.stderr.lines().count()), (5, 2), "{text:?}");
    assert_eq!(json.stderr, "");
    let later = [
        event("unreachable", &failing),
        event("appeared", &second),
        event("reachable", &failing),
        event("finished", &first[1]),
    ];
    assert_eq!(events(&json.stdout)[3..], later);
}

#[tokio::test]
async fn a_device_that_cannot_be_read_for_the_end_of_an_operation_does_not_stop_the_watch() {
    let upstream = Upstream::start().await;
    let name = |id: u32| format!("{}/operations/{id}", device(0));
    let pending = |id| json!({"name": name(id), "metadata": {"type": "WIPE"}});
    let done = json!({"name": name(1), "done": true, "error": {"code": 1, "message": ""}});
    let page = |operations: Value| Reply::json(200, &json!({"operations": operations}));
    let failure = || Reply::plain_error(500, "INTERNAL", "Internal error");
    upstream.answers([
        page(json!([pending(1)])),
        // The operation is not in the filtered list any more, and the list of the device fails.
        page(json!([])),
        failure(),
        page(json!([pending(2)])),
        failure(),
        page(json!([pending(2)])),
        page(json!([done, pending(2)])),
    ]);
    upstream.always_answers(page(json!([pending(2)])));
    let service = Setup::of(&upstream).start().await;
    let (server, device) = (service.address.to_string(), device(0));
    let arguments = ["list", &device, "--server", &server, "--filter", "x", "--output", "json", "--watch"];
    let process = Process::start(countermand(&arguments).args(["--interval", "20ms"]));
    upstream.wait_for_requests(9).await;
    process.signal(Signal::SIGINT);
    let ended = process.end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(130), ""));
    let expected = [
        event("appeared", &name(1)),
        event("unreachable", &device),
        event("appeared", &name(2)),
        event("finished", &name(1)),
        event("reachable", &device),
    ];
    assert_eq!(events(&ended.stdout), expected);
    let unreachable: Value = serde_json::from_str(ended.stdout.lines().nth(1).unwrap()).unwrap();
    assert!(unreachable["reason"].as_str().unwrap().starts_with("INTERNAL: Internal error"), "{unreachable}");
}

#[tokio::test]
async fn a_watch_of_a_server_without_grpc_ends_with_69() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let ended = run(&mut countermand(&["list", ALL, "--server", &server, "--watch"])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(69), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    serving.abort();
}

#[tokio::test]
async fn a_watch_continues_with_a_restarted_server() {
    let emulator = emulator(settings()).await;
    let files = tempfile::tempdir().unwrap();
    let (server, address) = serve(&emulator, &files, "127.0.0.1:0").await;
    let first = wipe(&emulator, &device(0), 1).remove(0);
    let arguments = ["list", ALL, "--server", &address.to_string(), "--watch"];
    let process = Process::start(countermand(&arguments).args(["--interval", "20ms"]));
    process.stdout.has(&first).await;
    server.signal(Signal::SIGKILL);
    server.end().await;
    process.stderr.has("countermand: UNAVAILABLE: ").await;
    let second = wipe(&emulator, &device(0), 1).remove(0);
    let (_server, _) = serve(&emulator, &files, &address.to_string()).await;
    process.stdout.has(&second).await;
}

#[tokio::test]
async fn a_list_over_all_devices_names_those_that_cannot_be_read() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 3, 1);
    let failing = device(1);
    emulator.control().set_device_fault(&failing, Some(DeviceFault::Failing(Fault::Unavailable)));
    let server = service.address.to_string();
    let list = |output| ["list", ALL, "--server", &server, "--output", output];
    let ended = run(&mut countermand(&list("text"))).await;
    assert_eq!((ended.code, ended.stderr), (Some(1), format!("countermand: not listed: {failing}\n")));
    assert_eq!(ended.stdout.lines().count(), 3, "{}", ended.stdout);
    assert!(ended.stdout.contains(&wipes[0]) && ended.stdout.contains(&wipes[2]), "{}", ended.stdout);
    let ended = run(&mut countermand(&list("json"))).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(1), 2), "{ended:?}");
    assert_eq!(events(&ended.stderr), [event("unreachable", &failing)]);
    // A device that is alone is not reported as one without operations.
    for readable in [device(0), device(2)] {
        emulator.control().delete_device(&readable);
    }
    let ended = run(&mut countermand(&list("text"))).await;
    assert_eq!((ended.code, ended.stderr), (Some(1), format!("countermand: not listed: {failing}\n")));
    let of_one = run(&mut countermand(&["list", &failing, "--server", &server])).await;
    assert_eq!((of_one.code, of_one.stdout.as_str()), (Some(1), ""), "{of_one:?}");
    assert!(of_one.stderr.starts_with("countermand: UNAVAILABLE: "), "{of_one:?}");
}

#[tokio::test]
async fn a_list_over_all_devices_prints_all_pages_with_the_filter() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 120, 2);
    emulator.control().issue_command(&device(5), serde_json::json!({"type": "LOCK"})).unwrap();
    let server = service.address.to_string();
    let filter = "done = false AND metadata.type = \"WIPE\"";
    let arguments = ["list", ALL, "--server", &server, "--filter", filter, "--output", "json"];
    let ended = run(&mut countermand(&arguments)).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), wipes.len()), "{}", ended.stderr);
    let unsupported = ["list", ALL, "--server", &server, "--filter", "name = 1"];
    let ended = run(&mut countermand(&unsupported)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("unsupported field"), "{ended:?}");
}
