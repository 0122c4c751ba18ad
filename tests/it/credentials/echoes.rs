//! Endpoints that quote the requests they receive, in several encodings. No output may repeat a secret.

use std::{path::Path, sync::Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use countermand_emulator::{Emulator, Kind};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    credentials::service::{LOG_EVERYTHING, assert_no_secrets, emulator},
    support::process::{Process, countermand, run},
};

/// Contains characters that most encodings escape.
const CLIENT_SECRET: &str = "GOCSPX-98/76+x~CLIENT/SECRET";
const REFRESH_TOKEN: &str = "1//0g/RE+FRESH-token_0123456789";
const SUBJECT_TOKEN: &str = "SUBJECT+TOKEN/0123456789";
const HEADER: &str = "HEADER/SECRET+0123456789";
const PATH: &str = "PATHSECRET0123456789";
const QUERY: &str = "QUERYSECRET0123456789";
const SECRETS: [(&str, &str); 6] = [
    ("a client secret", CLIENT_SECRET),
    ("a refresh token", REFRESH_TOKEN),
    ("a subject token", SUBJECT_TOKEN),
    ("a header", HEADER),
    ("a path", PATH),
    ("a query", QUERY),
];

/// The encodings in which an endpoint quotes a secret. The last one breaks lines, as some logs do.
const ENCODINGS: [fn(&str) -> String; 3] = [
    str::to_owned,
    |text| Value::from(text).to_string().replace('/', "\\/"),
    |text| text.as_bytes().chunks(30).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "),
];

/// The current encoding, and the recorded quotes and issued tokens.
#[derive(Default)]
struct Echo {
    encoding: watch::Sender<usize>,
    quoted: watch::Sender<Vec<(usize, String)>>,
    tokens: Mutex<Vec<String>>,
}

/// Refuses each request and quotes it, except that `/source` returns a token.
async fn respond(
    State(echo): State<&'static Echo>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    if uri.path() == "/source" {
        let token = format!("opaque/{:032x}", fastrand::u128(..));
        echo.tokens.lock().unwrap().push(token.clone());
        let granted = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"});
        return (StatusCode::OK, granted.to_string());
    }
    let encoding = *echo.encoding.borrow();
    let encode = ENCODINGS[encoding];
    let fields = form_urlencoded::parse(&body).map(|(_, value)| value.into_owned());
    let headers = headers.values().map(|value| value.to_str().unwrap().to_owned());
    let whole = [String::from_utf8_lossy(&body).into_owned(), uri.to_string()];
    let sent: Vec<_> = fields.chain(headers).chain(whole).filter(|text| !text.is_empty()).collect();
    let quoted: Vec<_> = sent.iter().map(|text| encode(text)).collect();
    echo.quoted.send_modify(|all| all.push((encoding, uri.path().to_owned())));
    // Another secret comes first each time, because a description is cut after 300 characters.
    let nth = echo.quoted.borrow().len() % quoted.len();
    let description = format!("not {} nor {}", quoted[nth], quoted.join(" nor "));
    let body = match uri.path().contains("generateAccessToken") {
        true => json!({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": description}}),
        false => json!({"error": quoted[nth], "error_description": description}),
    };
    (StatusCode::FORBIDDEN, body.to_string())
}

/// Writes a configuration `c.toml` with a credential of each kind, which all use the endpoints at `url`.
fn write_config(dir: &Path, emulator: &Emulator, url: &str) {
    let kind = |kind: Kind| -> Value {
        let file = dir.join("kind.json");
        emulator.credential_file(kind).write(&file).unwrap();
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    };
    let subject_token = dir.join("subject-token");
    std::fs::write(&subject_token, SUBJECT_TOKEN).unwrap();
    let mut service_account = kind(Kind::ServiceAccount);
    service_account["token_uri"] = json!(format!("{url}/token"));
    let mut source = service_account.clone();
    source["token_uri"] = json!(format!("{url}/source"));
    let person = json!({"type": "authorized_user", "client_id": "client", "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN, "token_uri": format!("{url}/token")});
    let workload = |credential_source: Value| {
        json!({"type": "external_account", "audience": "//iam.googleapis.com/x", "subject_token_type": "t",
            "token_url": format!("{url}/sts?key={QUERY}"), "client_id": "client",
            "client_secret": CLIENT_SECRET, "credential_source": credential_source})
    };
    let subject_token_url = format!("{url}/subject/{PATH}?k={QUERY}");
    let mut config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstream]\nurl = \"{url}\"\niam_credentials_url = \"{url}\"\n"
    );
    for (name, file, more) in [
        ("service-account", service_account, ""),
        ("person", person, ""),
        ("workload", workload(json!({"file": subject_token})), ""),
        ("workload-url", workload(json!({"url": subject_token_url, "headers": {"x-key": HEADER}})), ""),
        ("impersonating", source, "impersonate = \"proxy@p.iam.gserviceaccount.com\"\n"),
    ] {
        std::fs::write(dir.join(format!("{name}.json")), file.to_string()).unwrap();
        config += &format!(
            "[[credentials]]\nname = \"{name}\"\nfile = \"{name}.json\"\nenterprises = [\"{name}\"]\n{more}"
        );
    }
    std::fs::write(dir.join("c.toml"), config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_an_endpoint_quotes_is_in_no_output() {
    let emulator = emulator(std::time::Duration::from_secs(3600)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let echo: &'static Echo = Box::leak(Box::default());
    let serving = Router::new().fallback(respond).with_state(echo);
    let serving = tokio::spawn(async move { axum::serve(listener, serving).await.unwrap() });
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), &emulator, &url);

    let mut command = countermand(&["serve", "--config", "c.toml"]);
    let process = Process::start(command.current_dir(&dir).env("RUST_LOG", LOG_EVERYTHING));
    process.stderr.has("listening on the admin port").await;
    let mut outputs = Vec::new();
    for encoding in 0..ENCODINGS.len() {
        echo.encoding.send_replace(encoding);
        // Each run quotes other secrets first.
        for _ in 0..3 {
            let mut check = countermand(&["check", "--config", "c.toml"]);
            let ended = run(check.current_dir(&dir).env("RUST_LOG", LOG_EVERYTHING)).await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert_eq!(ended.stderr.matches(" answered HTTP 403").count(), 5, "{ended:?}");
            outputs.extend([ended.stdout, ended.stderr]);
        }
    }
    for path in ["/token", "/sts", "/subject/", "generateAccessToken"] {
        let quoted = echo.quoted.borrow();
        for encoding in 0..ENCODINGS.len() - 1 {
            let is_quoted = quoted.iter().any(|(nth, quoted)| *nth == encoding && quoted.contains(path));
            assert!(is_quoted, "{path} is not quoted in encoding {encoding}");
        }
    }
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("no token could be fetched"), "the log has no failed fetch");
    outputs.extend([ended.stdout, ended.stderr]);
    serving.abort();

    let tokens = std::mem::take(&mut *echo.tokens.lock().unwrap());
    let mut secrets = SECRETS.to_vec();
    secrets.extend(tokens.iter().map(|token| ("an opaque token", token.as_str())));
    assert_no_secrets(&emulator, &secrets, outputs.iter().map(String::as_str));
}
