//! No log line, response or page of the admin port contains a secret: at any log level and after every failure.

use nix::sys::signal::Signal::SIGTERM;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    lifecycle::{
        caller::{CALLER_AUTHORIZATION, begin, cancel},
        google::{Google, Token},
        key::Key,
        service::Service,
    },
    support::http_page,
};

mod callers;
mod search;

use search::SecretPatterns;

const ALL_LEVELS: &str = "trace";
const LEVELS_PER_LIBRARY: &str = "countermand=trace,yup_oauth2=trace,h2=trace,hyper=trace,hyper_util=trace,\
                            reqwest=trace,rustls=trace,tonic=trace,tower=trace";

/// The new password of a RESET_PASSWORD command.
const NEW_PASSWORD: &str = "correct-horse-battery";

/// Failures of the token endpoint. Some quote the assertion that they refuse.
const TOKEN_FAILURES: [Token; 5] = [
    Token::Other(400, r#"{"error": "invalid_grant", "error_description": "bad assertion={assertion}"}"#),
    Token::Other(400, r#"{"error": "invalid_grant", "error_description": "bad: {its begin}… {folded}"}"#),
    Token::Other(503, "<html>{assertion}</html>"),
    Token::Other(200, r#"{"access_token": ["{assertion}"], "expires_in": 3600, "id_token": "{assertion}"}"#),
    Token::Other(400, r#"{"error": {"status": "{assertion}", "message": "see\n{assertion}."}}"#),
];

/// Responses to cancels that Google refuses. Some quote the request.
const CANCEL_FAILURES: [(u16, &str); 7] = [
    (404, r#"{"error": {"code": 404, "status": "NOT_FOUND", "message": "gone"}}"#),
    (
        400,
        r#"{"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "done", "details": [
            {"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "sent {authorization}"},
            {"@type": "type.googleapis.com/google.android.devicemanagement.v1.Command",
             "type": "RESET_PASSWORD", "deep": [{"newPassword": "correct-horse-battery"}]}]}}"#,
    ),
    (400, r#"{"error": {"status": "INVALID_ARGUMENT", "message": "no such token: {authorization}!"}}"#),
    (403, r#"{"error": {"status": "PERMISSION_DENIED", "message": "no such token: {in unicode}!"}}"#),
    (403, "<html>{authorization}</html>"),
    (500, r#"{"error": "{authorization}"}"#),
    (302, "{authorization}"),
];

#[tokio::test]
async fn no_secret_is_in_the_text_log() {
    assert_no_secret_is_printed("text", ALL_LEVELS).await;
}

#[tokio::test]
async fn no_secret_is_in_the_json_log() {
    assert_no_secret_is_printed("json", LEVELS_PER_LIBRARY).await;
}

/// Causes every failure, then searches the responses, the pages and the output for secrets.
async fn assert_no_secret_is_printed(format: &str, filter: &str) {
    let google = Google::start().await;
    google.answer_token(TOKEN_FAILURES[0].clone());
    let service = Service::start_with(&google, |command| {
        command.args(["--log-format", format]).env("RUST_LOG", filter);
        command.env("COUNTERMAND_DRAIN_TIMEOUT", "1s");
    })
    .await;
    let mut texts = Vec::new();

    for (nth, response) in TOKEN_FAILURES.iter().enumerate() {
        google.answer_token(response.clone());
        let requests = google.seen().assertions.len();
        google.saw(|seen| seen.assertions.len() > requests.max(nth)).await;
        texts.push(format!("{:?}", cancel(service.address, 1).await.unwrap_err()));
        for path in ["/readyz", "/statusz", "/statusz.json"] {
            let host = [("host", "localhost")];
            let (status, _, page) = http_page::send(service.admin, "GET", path, &host, "").await;
            assert!(matches!(status, 200 | 503), "{path}");
            texts.push(page);
        }
    }
    google.answer_token(Token::Granted(3600));
    service.ready().await;
    cancel(service.address, 1).await.unwrap();
    for (status, body) in CANCEL_FAILURES {
        google.answer_cancel(status, body);
        texts.push(format!("{:?}", cancel(service.address, 2).await.unwrap_err()));
    }
    rejected_token(&google, &service, &mut texts).await;
    let next = rotate_key(&google, &service).await;
    send_http1(&service).await;

    google.hold();
    let before = google.seen().authorizations.len();
    let (in_flight, hung_up) = (begin(service.address, 3), begin(service.address, 4));
    google.arrived(before + 2).await;
    hung_up.abort();
    service.process.signal(SIGTERM);
    texts.push(format!("{:?}", in_flight.await.unwrap().unwrap_err()));
    let secrets =
        SecretPatterns::new(google.seen(), &[&service.key, &next], &[CALLER_AUTHORIZATION, NEW_PASSWORD]);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    assert!(ended.stderr.contains("token fetched"), "the log has something to search");
    let texts = texts.iter().chain([&ended.stdout, &ended.stderr]);
    let found: Vec<_> = texts.flat_map(|text| secrets.found_in(text)).collect();
    assert!(found.is_empty(), "{found:#?}");
    let forwarded = google.seen().authorizations.iter().any(|header| header.contains(CALLER_AUTHORIZATION));
    assert!(!forwarded, "the caller's own authorization went to Google");
}

/// Google answers 401, also after the token is renewed.
async fn rejected_token(google: &Google, service: &Service, texts: &mut Vec<String>) {
    google.answer_cancel(401, r#"{"error": {"status": "UNAUTHENTICATED", "message": "{authorization}"}}"#);
    texts.push(format!("{:?}", cancel(service.address, 5).await.unwrap_err()));
    google.saw(|seen| seen.tokens.len() == 2).await;
    google.answer_cancel(200, "{}");
}

/// Writes a new key, then two files that are broken in the middle of the private key.
async fn rotate_key(google: &Google, service: &Service) -> Key {
    let next = Key::generate();
    let whole = next.file(&google.token_url());
    std::fs::write(service.key_file(), &whole).unwrap();
    google.saw(|seen| seen.tokens.len() == 3).await;
    let line = &next.secret_lines()[5];
    let broken = [whole.replace(line, &line[1..]), whole.replace(line, &format!("\"{line}"))];
    for (nth, broken) in broken.iter().enumerate() {
        std::fs::write(service.key_file(), broken).unwrap();
        let count = |log: &str| log.matches("the old one stays in use").count();
        service.process.stderr.see(|log| (count(log) > nth).then_some(())).await;
    }
    next
}

/// Sends an HTTP/1.1 request with a secret header to the HTTP/2 port.
async fn send_http1(service: &Service) {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let request =
        format!("POST /cancel HTTP/1.1\r\nhost: x\r\nauthorization: {CALLER_AUTHORIZATION}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    service.process.stderr.has("a connection ended early").await;
}
