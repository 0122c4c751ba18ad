//! Endpoints that quote what they were sent, in whatever spelling: nobody is told.

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
    credentials::service::{EVERYTHING, emulator, nothing_in},
    support::process::{Process, countermand, run},
};

/// With characters that most spellings write in another way.
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

/// The ways in which an endpoint quotes a secret; the last is of a log that breaks its lines.
const SPELLINGS: [fn(&str) -> String; 3] = [
    str::to_owned,
    |text| Value::from(text).to_string().replace('/', "\\/"),
    |text| text.as_bytes().chunks(30).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "),
];

/// What came, and how it is quoted.
#[derive(Default)]
struct Echo {
    spelling: watch::Sender<usize>,
    quoted: watch::Sender<Vec<(usize, String)>>,
    tokens: Mutex<Vec<String>>,
}

/// Refuses what it is asked for, but a token for whom `/source` is asked, and quotes all that it was sent.
async fn answer(
    State(echo): State<&'static Echo>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    if uri.path() == "/source" {
        let token = format!("opaque/{:032x}", fastrand::u128(..));
        echo.tokens.lock().unwrap().push(token.clone());
        let answer = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"});
        return (StatusCode::OK, answer.to_string());
    }
    let spelling = *echo.spelling.borrow();
    let spelt = SPELLINGS[spelling];
    let fields = form_urlencoded::parse(&body).map(|(_, value)| value.into_owned());
    let headers = headers.values().map(|value| value.to_str().unwrap().to_owned());
    let whole = [String::from_utf8_lossy(&body).into_owned(), uri.to_string()];
    let sent: Vec<_> = fields.chain(headers).chain(whole).filter(|text| !text.is_empty()).collect();
    let quoted: Vec<_> = sent.iter().map(|text| spelt(text)).collect();
    echo.quoted.send_modify(|all| all.push((spelling, uri.path().to_owned())));
    // Each alone and first, since what comes after 300 characters is not told anyhow.
    let nth = echo.quoted.borrow().len() % quoted.len();
    let said = format!("not {} nor {}", quoted[nth], quoted.join(" nor "));
    let body = match uri.path().contains("generateAccessToken") {
        true => json!({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": said}}),
        false => json!({"error": quoted[nth], "error_description": said}),
    };
    (StatusCode::FORBIDDEN, body.to_string())
}

/// A configuration `c.toml` of a credential of each kind, all of which ask the endpoints at `url`.
fn furnish(room: &Path, emulator: &Emulator, url: &str) {
    let kind = |kind: Kind| -> Value {
        let file = room.join("kind.json");
        emulator.credential_file(kind).write(&file).unwrap();
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    };
    let subject_token = room.join("subject-token");
    std::fs::write(&subject_token, SUBJECT_TOKEN).unwrap();
    let mut robot = kind(Kind::ServiceAccount);
    robot["token_uri"] = json!(format!("{url}/token"));
    let mut source = robot.clone();
    source["token_uri"] = json!(format!("{url}/source"));
    let person = json!({"type": "authorized_user", "client_id": "client", "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN, "token_uri": format!("{url}/token")});
    let workload = |credential_source: Value| {
        json!({"type": "external_account", "audience": "//iam.googleapis.com/x", "subject_token_type": "t",
            "token_url": format!("{url}/sts?key={QUERY}"), "client_id": "client",
            "client_secret": CLIENT_SECRET, "credential_source": credential_source})
    };
    let place = format!("{url}/subject/{PATH}?k={QUERY}");
    let mut config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstream]\nurl = \"{url}\"\niam_credentials_url = \"{url}\"\n"
    );
    for (name, file, more) in [
        ("robot", robot, ""),
        ("person", person, ""),
        ("workload", workload(json!({"file": subject_token})), ""),
        ("elsewhere", workload(json!({"url": place, "headers": {"x-key": HEADER}})), ""),
        ("on-top", source, "impersonate = \"proxy@p.iam.gserviceaccount.com\"\n"),
    ] {
        std::fs::write(room.join(format!("{name}.json")), file.to_string()).unwrap();
        config += &format!(
            "[[credentials]]\nname = \"{name}\"\nfile = \"{name}.json\"\nenterprises = [\"{name}\"]\n{more}"
        );
    }
    std::fs::write(room.join("c.toml"), config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_what_they_quote() {
    let emulator = emulator(std::time::Duration::from_secs(3600)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let echo: &'static Echo = Box::leak(Box::default());
    let serving = Router::new().fallback(answer).with_state(echo);
    let serving = tokio::spawn(async move { axum::serve(listener, serving).await.unwrap() });
    let room = tempfile::tempdir().unwrap();
    furnish(room.path(), &emulator, &url);

    let mut command = countermand(&["serve", "--config", "c.toml"]);
    let process = Process::start(command.current_dir(&room).env("RUST_LOG", EVERYTHING));
    process.stderr.has("listening on the admin port").await;
    let mut told = Vec::new();
    for spelling in 0..SPELLINGS.len() {
        echo.spelling.send_replace(spelling);
        // Whatever is told first: what else was sent is told first in another round.
        for _ in 0..3 {
            let mut check = countermand(&["check", "--config", "c.toml"]);
            let ended = run(check.current_dir(&room).env("RUST_LOG", EVERYTHING)).await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert_eq!(ended.stderr.matches(" answered HTTP 403").count(), 5, "{ended:?}");
            told.extend([ended.stdout, ended.stderr]);
        }
    }
    for path in ["/token", "/sts", "/subject/", "generateAccessToken"] {
        let quoted = echo.quoted.borrow();
        for spelling in 0..SPELLINGS.len() - 1 {
            let one = quoted.iter().any(|(nth, asked)| *nth == spelling && asked.contains(path));
            assert!(one, "{path} quoted in spelling {spelling}");
        }
    }
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("no token could be fetched"), "the log has something to search");
    told.extend([ended.stdout, ended.stderr]);
    serving.abort();

    let tokens = std::mem::take(&mut *echo.tokens.lock().unwrap());
    let mut secrets = SECRETS.to_vec();
    secrets.extend(tokens.iter().map(|token| ("an opaque token", token.as_str())));
    nothing_in(&emulator, &secrets, told.iter().map(String::as_str));
}
