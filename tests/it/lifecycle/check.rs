//! `countermand check`: one line per finding.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::Signal::{SIGINT, SIGTERM},
        stat::Mode,
    },
    unistd::mkfifo,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    lifecycle::{
        google::{Google, Token},
        key::{ACCOUNT, Key},
    },
    support::process::{Ended, Process, countermand, eventually, run},
};

/// A directory with a configuration `c.toml` of these sections, and with key files of these names and token URLs. Only
/// their owner can read the key files.
fn configured(sections: &str, keys: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, token_url) in keys {
        let file = dir.path().join(name);
        fs::write(&file, Key::generate().file(token_url)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(dir.path().join("c.toml"), sections).unwrap();
    dir
}

async fn check(dir: &TempDir, more: &[&str]) -> Ended {
    run(countermand(&["check", "--config", "c.toml"]).args(more).current_dir(dir)).await
}

/// A directory with one credential for `api`, with this token URL.
fn emea(api: &str, token_url: &str) -> TempDir {
    let sections =
        format!("[upstream]\nurl = \"{api}\"\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n");
    configured(&sections, &[("key.json", token_url)])
}

const SCOPE: &str = "https://www.googleapis.com/auth/androidmanagement";

#[tokio::test]
async fn every_finding_of_a_valid_configuration_is_ok() {
    let google = Google::start().await;
    let dir = emea(&google.url, &google.token_url());
    let ended = check(&dir, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let begins = [
        "configuration: all settings are valid".to_owned(),
        format!("upstream: {} was reached: HTTP 404 to a GET without a token", google.url),
        "credential emea: key.json can be read (owner ".to_owned(),
        format!("credential emea: service account {ACCOUNT}, scope {SCOPE}"),
        "credential emea: serves every enterprise that no other credential serves".to_owned(),
        format!("credential emea: fetched a token from {}, valid for 1h", google.token_url()),
    ];
    assert_eq!(lines.len(), begins.len(), "{}", ended.stdout);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(&begin), "{line}\nshould begin\n{begin}");
    }
    assert_eq!(ended.stderr, "");
    assert_eq!(google.seen().assertions.len(), 1, "one request");
    assert!(!ended.stdout.contains(&google.seen().tokens[0]), "the token is not printed");
}

#[tokio::test]
async fn a_token_that_cannot_be_fetched_is_an_error_with_its_cause_and_a_hint() {
    let google = Google::start().await;
    let url = google.token_url();
    let refused = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    for (response, url, cause, hint) in [
        (Token::Other(400, refused), &*url, "HTTP 400: invalid_grant Invalid JWT Signature;", "clock"),
        (Token::Other(503, "<html>"), &url, "the token endpoint answered HTTP 503;", "try again later"),
        (Token::Other(200, "<html>"), &url, "something that is not JSON;", "token_uri"),
        (Token::Granted(3600), "http://127.0.0.1:1/token", "Connection refused", "can be reached"),
    ] {
        google.answer_token(response);
        let ended = check(&emea(&google.url, url), &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 5, "{ended:?}");
        let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(line.starts_with(&format!("countermand: credential emea: no token from {url}: ")), "{line}");
        assert!(line.contains(cause) && line.contains(hint), "{line}\nshould have {cause} {hint}");
    }
}

#[tokio::test]
async fn an_api_that_is_not_reached_is_an_error() {
    let google = Google::start().await;
    for (api, cause) in [
        ("http://127.0.0.1:1".to_owned(), "was not reached: "),
        // A plain HTTP server does not answer the TLS handshake.
        (google.url.replace("http:", "https:"), "was not reached: "),
    ] {
        let ended = check(&emea(&api, &google.token_url()), &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(line.starts_with(&format!("countermand: upstream: {api} {cause}")), "{line}");
        assert!(line.contains("upstream.ca_certificates"), "{line}\nshould have the hint");
        assert!(ended.stdout.contains("fetched a token"), "the other findings are printed too: {ended:?}");
    }
}

#[tokio::test]
async fn findings_are_in_the_order_of_the_credentials_and_a_warning_is_no_error() {
    let (one, other) = (Google::start().await, Google::start().await);
    let sections = format!(
        "[upstream]\nurl = \"{}\"\n\
         [[credentials]]\nname = \"one\"\nfile = \"one.json\"\nenterprises = [\"LC01*\", \"LC02ab\"]\n\
         [[credentials]]\nname = \"other\"\nfile = \"other.json\"\n",
        one.url
    );
    let dir = configured(&sections, &[("one.json", &one.token_url()), ("other.json", &other.token_url())]);
    fs::set_permissions(dir.path().join("other.json"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = check(&dir, &["--output", "json"]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed["errors"], 0, "{printed}");
    let findings = printed["findings"].as_array().unwrap();
    let subjects: Vec<_> = findings.iter().map(|finding| finding["subject"].as_str().unwrap()).collect();
    let (of_one, of_other) = ("credential one", "credential other");
    let expected = [
        &["configuration", "upstream"][..],
        &[of_one, of_one, of_one, of_one],
        &[of_other, of_other, of_other, of_other],
    ];
    assert_eq!(subjects, expected.concat(), "{printed}");
    assert!(findings.contains(&json!({
        "subject": of_one, "level": "ok", "finding": "serves LC01*, LC02ab", "hint": null,
    })));
    let warnings: Vec<_> = findings.iter().filter(|finding| finding["level"] == "warning").collect();
    let [warning] = warnings[..] else { panic!("{printed}") };
    assert!(warning["finding"].as_str().unwrap().starts_with("every user of this machine can read "));
    assert!(warning["hint"].as_str().unwrap().starts_with("chmod 0640 "), "{warning}");

    let ended = check(&dir, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
    assert!(line.starts_with("countermand: warning: credential other: every user of this machine"), "{line}");
}

#[tokio::test]
async fn every_error_of_a_configuration_is_printed_and_no_token_is_fetched() {
    let google = Google::start().await;
    let key = [("key.json", &*google.token_url())];
    let invalid =
        "[server]\nlisten = []\ndrain_timeout = \"soon\"\n[[credentials]]\nname = \"a\"\nfile = \"key.json\"";
    let dir = configured(invalid, &key);
    let ended = check(&dir, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 3, "{ended:?}");
    assert_eq!(ended.stdout, "");

    let ended = check(&dir, &["--output", "json"]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended:?}");
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed["errors"], 2, "{printed}");
    let first = &printed["findings"][0];
    assert_eq!((&first["subject"], &first["level"]), (&json!("server.listen (line 2)"), &json!("error")));
    assert_eq!(first["finding"], "the list is empty");
    assert!(!first["hint"].as_str().unwrap().is_empty());
    assert!(google.seen().assertions.is_empty());
}

#[tokio::test]
async fn a_signal_ends_it_while_a_host_name_is_resolved() {
    for (signal, code) in [(SIGTERM, 143), (SIGINT, 130)] {
        let dir = tempfile::tempdir().unwrap();
        let aliases = dir.path().join("aliases");
        mkfifo(&aliases, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let mut command = countermand(&["check"]);
        // glibc reads the aliases first when it resolves a name without a dot.
        command.env("HOSTALIASES", &aliases).env("COUNTERMAND_LISTEN", "alias:50051");
        let process = Process::start(&mut command);
        // Opening the FIFO succeeds once the resolver has opened it. The open end keeps the resolver reading.
        let _writer = eventually("the resolver reads the aliases", async || {
            fs::OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&aliases).ok()
        })
        .await;
        process.signal(signal);
        let since = Instant::now();
        assert_eq!(process.end().await.code, Some(code));
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn the_quotas_and_the_credentials_that_none_paces_are_findings() {
    let google = Google::start().await;
    let credentials = format!(
        "[upstream]\nurl = \"{}\"\n\
         [[credentials]]\nname = \"emea\"\nfile = \"key.json\"\nenterprises = [\"LC01\"]\nproject = \"p\"\n\
         [[credentials]]\nname = \"apac\"\nfile = \"key.json\"\nenterprises = [\"LC02\"]\n\
         [[credentials]]\nname = \"us\"\nfile = \"key.json\"\n\
         impersonate = \"proxy@q.example.com.iam.gserviceaccount.com\"\n",
        google.url
    );
    let sections =
        format!("{credentials}[[quota]]\nproject = \"p\"\n[[quota]]\nproject = \"r\"\nmode = \"shadow\"\n");
    let dir = configured(&sections, &[("key.json", &google.token_url())]);
    let ended = check(&dir, &[]).await;
    let begins = [
        "countermand: warning: quota r: no credential has this project; correct the project",
        "countermand: warning: quota r: it is in shadow mode: no query is delayed or refused; give mode",
        "countermand: warning: credential apac: its Google project is unknown: its queries are not paced; give",
        "countermand: warning: credential us: no [[quota]] section is for its project example.com:q: its queries are",
    ];
    let warnings: Vec<_> = ended.stderr.lines().filter(|line| line.contains("warning: ")).collect();
    assert_eq!(warnings.len(), begins.len(), "{}", ended.stderr);
    for (line, begin) in warnings.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}\nshould begin\n{begin}");
    }
    let paced = "quota p: at most 600 queries in any 1m, for the credential emea";
    assert!(ended.stdout.lines().any(|line| line == paced), "{}", ended.stdout);

    let sections = format!("{credentials}[[quota]]\n");
    let ended = check(&configured(&sections, &[("key.json", &google.token_url())]), &[]).await;
    let paced =
        "quota: at most 600 queries in any 1m for each project: example.com:q (us), p (emea), unknown (apac)";
    assert!(ended.stdout.lines().any(|line| line == paced), "{}", ended.stdout);
}

#[tokio::test]
async fn a_store_of_the_shared_quota_that_cannot_be_reached_is_an_error() {
    let google = Google::start().await;
    let sections = format!(
        "[upstream]\nurl = \"{}\"\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\nproject = \"p\"\n\
         [[quota]]\n[quota_shared]\nurl = \"redis://127.0.0.1:1\"\nreplicas = 2\n",
        google.url
    );
    let dir = configured(&sections, &[("key.json", &google.token_url())]);
    let ended = check(&dir, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
    assert!(line.starts_with("countermand: quota_shared: redis://127.0.0.1:1: "), "{line}");
    assert!(line.contains("; check that it can be reached from here"), "{line}");
}
