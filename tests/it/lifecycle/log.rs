//! The format of the log, the trace of its lines, and the change of its filter.

use std::{fs::File, io::Read, process::Stdio};

use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};
use nix::{pty::openpty, sys::signal::Signal::SIGTERM};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    lifecycle::{
        caller::{cancel, connect, operation},
        google::Google,
        service::{SERVE, Service, listening},
    },
    support::{process::countermand, with_timeout},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn the_log_is_json_on_a_pipe() {
    let google = Google::start().await;
    let service = Service::start_with(&google, |command| {
        command.env_remove("COUNTERMAND_LOG_FORMAT");
    });
    let service = service.await;
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    for line in ended.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn the_log_is_text_on_a_terminal() {
    let pty = openpty(None, None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let google = Google::start().await;
    let key = crate::lifecycle::key::Key::generate().file(&google.token_url());
    std::fs::write(directory.path().join("key.json"), key).unwrap();
    let mut command = countermand(&SERVE);
    command.current_dir(&directory).args(["--upstream-url", &google.url, "--credentials", "key.json"]);
    command.env_remove("COUNTERMAND_LOG_FORMAT").stdin(Stdio::null()).stdout(Stdio::null()).stderr(pty.slave);
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    // Closes the terminal's descriptor in this process, so that only the child has it open.
    drop(command);
    let mut master = File::from(pty.master);
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.contains("listening on the admin port") {
            let length = master.read(&mut buffer).unwrap();
            text += std::str::from_utf8(&buffer[..length]).unwrap();
        }
        text
    });
    let text = with_timeout("lines on the terminal", read).await.unwrap();
    assert!(!text.contains('{'), "{text}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn the_lines_of_a_call_have_the_trace_of_its_audit_line() {
    for format in ["text", "json"] {
        let google = Google::start().await;
        google.answer_cancel(500, "{}");
        let service = Service::start_with(&google, |command| {
            command.env("COUNTERMAND_LOG_FORMAT", format);
        });
        let service = service.await;
        service.ready().await;
        let mut request = tonic::Request::new(CancelOperationRequest { name: operation(1) });
        request
            .metadata_mut()
            .insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-00").parse().unwrap());
        let mut client = OperationsClient::new(connect(service.address).await.unwrap());
        client.cancel_operation(request).await.unwrap_err();
        let line = service
            .process
            .stderr
            .see(|log| log.lines().find(|line| line.contains("upstream call failed")).map(str::to_owned));
        let line = line.await;
        let expected = match format {
            "text" => format!(" trace_id={TRACE} "),
            _ => format!(r#""trace_id":"{TRACE}""#),
        };
        assert!(line.contains(&expected), "{line}");
        service.process.stdout.has(&format!(r#""trace_id":"{TRACE}""#)).await;

        // Without a traceparent, both have the same new trace.
        cancel(service.address, 2).await.unwrap_err();
        let audit = service.process.stdout.see(|log| {
            let line = log.lines().find(|line| line.contains(&operation(2)))?;
            Some(serde_json::from_str::<Value>(line).unwrap()["trace_id"].as_str().unwrap().to_owned())
        });
        service.process.stderr.has(&audit.await).await;
    }
}

/// The status and the body of the response to a request for `/loglevel`.
async fn request(service: &Service, method: &str, headers: &str, body: &str) -> (u16, String) {
    let response = with_timeout("a page", async {
        let mut stream = TcpStream::connect(service.admin).await.unwrap();
        let length = body.len();
        let head = format!("{method} /loglevel HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    });
    let response = response.await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_admin_port_changes_the_filter_of_the_log() {
    let google = Google::start().await;
    let service = Service::start_with(&google, |command| {
        command.env("COUNTERMAND_TELEMETRY_LISTEN", "127.0.0.1:0");
    });
    let service = service.await;
    service.ready().await;
    let host = "host: localhost\r\n";
    assert_eq!(request(&service, "GET", host, "").await, (200, "info\n".to_owned()));
    cancel(service.address, 1).await.unwrap();
    let debug = "upstream call completed";

    for (method, headers, body, status) in [
        ("GET", "host: example.com\r\n", "", 403),
        ("PUT", "host: example.com\r\n", "debug", 403),
        ("POST", "host: localhost\r\norigin: https://example.com\r\n", "debug", 403),
        ("PUT", host, "countermand=loud", 400),
        ("PUT", host, "", 400),
        ("PUT", host, &"x".repeat(5000), 400),
        ("DELETE", host, "", 405),
    ] {
        assert_eq!(request(&service, method, headers, body).await.0, status, "{method} {headers:?} {body:?}");
    }
    assert_eq!(request(&service, "GET", host, "").await.1, "info\n");
    assert!(!service.process.stderr.text().contains(debug));

    assert_eq!(request(&service, "PUT", host, "trace").await, (200, "trace\n".to_owned()));
    cancel(service.address, 2).await.unwrap();
    service.process.stderr.has(debug).await;
    assert_eq!(request(&service, "POST", host, "warn\n").await, (200, "warn\n".to_owned()));
    service.process.signal(SIGTERM);
    let log = service.process.end().await.stderr;
    assert_eq!(log.matches(debug).count(), 1, "{log}");
    assert_eq!(log.matches("the filter of the log was changed").count(), 2, "{log}");
    let others = log.lines().filter(|line| line.contains(" DEBUG ") || line.contains(" TRACE "));
    for line in others {
        assert!(line.contains(" countermand::"), "{line}");
    }
    assert!(!log.contains(": draining"), "the line is information: {log}");
}

#[tokio::test]
async fn the_telemetry_listener_cannot_change_the_filter() {
    let google = Google::start().await;
    let service = Service::start_with(&google, |command| {
        command.env("COUNTERMAND_TELEMETRY_LISTEN", "127.0.0.1:0");
    });
    let mut service = service.await;
    let address = service.process.stderr.see(|log| listening(log, "listening for telemetry")).await;
    service.admin = address;
    assert_eq!(request(&service, "GET", "host: localhost\r\n", "").await.0, 404);
    assert_eq!(request(&service, "PUT", "host: localhost\r\n", "debug").await.0, 404);
}
