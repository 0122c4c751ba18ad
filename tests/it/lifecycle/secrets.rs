//! No secret in any log line at any level, in any answer, or on `/readyz`: whatever goes wrong, and
//! whatever `RUST_LOG` asks for.

use nix::sys::signal::Signal::SIGTERM;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::lifecycle::{
    caller::{CALLERS_OWN, begin, cancel},
    google::{Google, Token},
    key::Key,
    service::Service,
};

mod callers;
mod search;

use search::Secrets;

const EVERYTHING: &str = "trace";
const EACH_LIBRARY: &str = "countermand=trace,yup_oauth2=trace,h2=trace,hyper=trace,hyper_util=trace,\
                            reqwest=trace,rustls=trace,tonic=trace,tower=trace";

/// What a device's user would type, as RESET_PASSWORD carries it.
const NEW_PASSWORD: &str = "correct-horse-battery";

/// The token endpoint in trouble of every kind; some of it quotes what it refuses.
const AT_START: [Token; 5] = [
    Token::Other(400, r#"{"error": "invalid_grant", "error_description": "bad assertion={assertion}"}"#),
    Token::Other(400, r#"{"error": "invalid_grant", "error_description": "bad: {its begin}… {folded}"}"#),
    Token::Other(503, "<html>{assertion}</html>"),
    Token::Other(200, r#"{"access_token": ["{assertion}"], "expires_in": 3600, "id_token": "{assertion}"}"#),
    Token::Other(400, r#"{"error": {"status": "{assertion}", "message": "see\n{assertion}."}}"#),
];

/// Cancels that Google refuses, in bodies that quote what it was sent.
const REFUSALS: [(u16, &str); 9] = [
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
    (403, r#"{"error": {"status": "PERMISSION_DENIED", "message": "no such token: {in percent}!"}}"#),
    (403, r#"{"error": {"status": "PERMISSION_DENIED", "message": "no such token: {in base64}!"}}"#),
    (403, "<html>{authorization}</html>"),
    (500, r#"{"error": "{authorization}"}"#),
    (302, "{authorization}"),
];

#[tokio::test]
async fn none_is_in_the_text_log() {
    nothing_gets_out("text", EVERYTHING).await;
}

#[tokio::test]
async fn none_is_in_the_json_log() {
    nothing_gets_out("json", EACH_LIBRARY).await;
}

async fn nothing_gets_out(format: &str, filter: &str) {
    let google = Google::start().await;
    google.answer_token(AT_START[0].clone());
    let service = Service::start_with(&google, |command| {
        command.args(["--log-format", format]).env("RUST_LOG", filter);
        command.env("COUNTERMAND_DRAIN_TIMEOUT", "1s");
    })
    .await;
    let mut told = Vec::new();

    for (nth, answer) in AT_START.iter().enumerate() {
        google.answer_token(answer.clone());
        let asked = google.seen().assertions.len();
        google.saw(|seen| seen.assertions.len() > asked.max(nth)).await;
        told.push(format!("{:?}", cancel(service.address, 1).await.unwrap_err()));
        told.push(service.get("/readyz").await.1);
    }
    google.answer_token(Token::Granted(3600));
    service.ready().await;
    cancel(service.address, 1).await.unwrap();
    for (status, body) in REFUSALS {
        google.answer_cancel(status, body);
        told.push(format!("{:?}", cancel(service.address, 2).await.unwrap_err()));
    }
    rejected_token(&google, &service, &mut told).await;
    let next = rotation(&google, &service).await;
    nonsense(&service).await;

    google.hold();
    let before = google.seen().authorizations.len();
    let (in_flight, hung_up) = (begin(service.address, 3), begin(service.address, 4));
    google.arrived(before + 2).await;
    hung_up.abort();
    service.process.signal(SIGTERM);
    told.push(format!("{:?}", in_flight.await.unwrap().unwrap_err()));
    let secrets = Secrets::new(google.seen(), &[&service.key, &next], &[CALLERS_OWN, NEW_PASSWORD]);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    assert!(ended.stderr.contains("token fetched"), "the log has something to search");
    let texts = told.iter().chain([&ended.stdout, &ended.stderr]);
    let found: Vec<_> = texts.flat_map(|text| secrets.found_in(text)).collect();
    assert!(found.is_empty(), "{found:#?}");
    let forwarded = google.seen().authorizations.iter().any(|header| header.contains(CALLERS_OWN));
    assert!(!forwarded, "the caller's own authorization went to Google");
}

/// Google's 401: the token is renewed, in vain.
async fn rejected_token(google: &Google, service: &Service, told: &mut Vec<String>) {
    google.answer_cancel(401, r#"{"error": {"status": "UNAUTHENTICATED", "message": "{authorization}"}}"#);
    told.push(format!("{:?}", cancel(service.address, 5).await.unwrap_err()));
    google.saw(|seen| seen.tokens.len() == 2).await;
    google.answer_cancel(200, "{}");
}

/// A new key, and one that is broken in the middle of its secret.
async fn rotation(google: &Google, service: &Service) -> Key {
    let next = Key::generate();
    let whole = next.file(&google.token_url());
    std::fs::write(service.key_file(), &whole).unwrap();
    google.saw(|seen| seen.tokens.len() == 3).await;
    let line = &next.secret_lines()[5];
    let broken = [whole.replace(line, &line[1..]), whole.replace(line, &format!("\"{line}"))];
    for (nth, broken) in broken.iter().enumerate() {
        std::fs::write(service.key_file(), broken).unwrap();
        let told = |log: &str| log.matches("the old one stays in use").count();
        service.process.stderr.see(|log| (told(log) > nth).then_some(())).await;
    }
    next
}

/// Bytes that are no HTTP/2, with a secret among them.
async fn nonsense(service: &Service) {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let request = format!("POST /cancel HTTP/1.1\r\nhost: x\r\nauthorization: {CALLERS_OWN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    service.process.stderr.has("a connection ended early").await;
}
