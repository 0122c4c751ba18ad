//! `countermand check` of a configuration with TLS, a policy, tokens and an audit log.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    access::{
        CONSOLE,
        fixture::permit_only,
        program::{ConfigDir, ConfigFiles},
    },
    support::{
        files::replace,
        issuer::{Key, key_set},
        process::{Ended, countermand, run},
        reply::Reply,
        tls::Authority,
        upstream::Upstream,
    },
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A directory with a valid configuration for `upstream`.
fn configured(upstream: &Upstream, authority: &Authority) -> ConfigDir {
    upstream.always_answers(Reply::plain_error(404, "NOT_FOUND", "Not here."));
    let keys = key_set([Key::rsa().jwk(Some("a")), Key::ec().jwk(Some("b"))]);
    let policy = permit_only(&[("console", CONSOLE)]);
    let end = SystemTime::now() + 90 * DAY + HOUR;
    let files =
        ConfigFiles { pair: &authority.server_until(end), clients: authority, keys: &keys, policy: &policy };
    let dir = ConfigDir::new(upstream, &files);
    for secret in ["tls.key", "key.json"] {
        fs::set_permissions(dir.file(secret), Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn make_readable_by_all(file: &Path) {
    fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
}

async fn check(dir: &ConfigDir, words: &[&str]) -> Ended {
    run(countermand(&["check", "--config", "c.toml"]).args(words).current_dir(dir.file(""))).await
}

/// The lines about these subjects.
fn about<'a>(lines: &'a str, subjects: &[&str]) -> Vec<&'a str> {
    let subjects: Vec<_> = subjects.iter().map(|subject| format!("{subject}: ")).collect();
    lines.lines().filter(|line| subjects.iter().any(|subject| line.contains(subject))).collect()
}

#[tokio::test]
async fn every_part_has_a_line() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let dir = configured(&upstream, &authority);
    let ended = check(&dir, &[]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines.len() > 9, "{ended:?}");
    for (line, (begin, part)) in lines.iter().zip([
        ("configuration: ", "all settings are valid"),
        ("server.tls.certificate: tls.crt: CN=", ", dns:localhost, ip:127.0.0.1: 90 days left, until 20"),
        ("server.tls.private_key: tls.key can be read (owner ", "mode 0600"),
        ("server.tls.client_ca: clients.pem: CN=CA ", " days left, until "),
        ("policy policy.cedar: 1 policy", ""),
        ("audit.file: audit.jsonl can be written", ""),
        ("callers.jwt.jwks: jwks.json: 2 keys to verify the tokens of https://issuer.example", ""),
        ("upstream: ", " was reached: HTTP 404"),
        ("credential emea: ", ""),
    ]) {
        assert!(line.starts_with(begin) && line.contains(part), "{line}\nshould be {begin}…{part}");
    }
    assert!(lines.last().unwrap().contains("fetched a token"), "{ended:?}");
    assert!(!dir.file("audit.jsonl").exists(), "check creates no file");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_warning_and_one_that_has_expired_is_an_error() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let dir = configured(&upstream, &authority);
    let subjects = ["server.tls.certificate"];
    let now = SystemTime::now();
    authority.server_until(now + 3 * DAY + HOUR).write(&dir.file("tls.crt"), &dir.file("tls.key"));
    make_readable_by_all(&dir.file("tls.key"));
    let ended = check(&dir, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let [line] = about(&ended.stderr, &subjects)[..] else { panic!("{ended:?}") };
    assert!(line.contains("warning: ") && line.contains(": 3 days left, until "), "{line}");
    let [line] = about(&ended.stderr, &["server.tls.private_key"])[..] else { panic!("{ended:?}") };
    assert!(line.contains("can read tls.key") && line.contains("; chmod 0640 tls.key"), "{line}");

    authority.server_until(now - HOUR).write(&dir.file("tls.crt"), &dir.file("tls.key"));
    let ended = check(&dir, &["--output", "json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = printed["findings"].as_array().unwrap();
    let errors: Vec<_> = findings.iter().filter(|finding| finding["level"] == "error").collect();
    let [error] = errors[..] else { panic!("{printed:#}") };
    assert_eq!((&error["subject"], &error["hint"]), (&subjects[0].into(), &"renew it".into()));
    let finding = error["finding"].as_str().unwrap();
    assert!(finding.contains(": expired at ") && finding.ends_with(": clients will refuse it"), "{finding}");
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_an_error_with_a_hint() {
    let (upstream, authority, issuer) = (Upstream::start().await, Authority::new(), Upstream::start().await);
    let dir = configured(&upstream, &authority);
    let file = fs::read_to_string(dir.file("c.toml")).unwrap();
    let at =
        |jwks: &str| replace(&dir.file("c.toml"), &file.replace("\"jwks.json\"", &format!("\"{jwks}\"")));
    let url = format!("{}/jwks", issuer.url());
    at(&url);
    let keys = key_set([Key::ec().jwk(Some("a"))]);
    for (reply, wanted) in [
        (Reply::new(200, "application/json", keys), Ok(": 1 key to verify")),
        (
            Reply::new(403, "text/plain", "who?"),
            Err(": the endpoint returned HTTP 403; set callers.jwt.jwks_token_file"),
        ),
        (
            Reply::new(404, "text/html", "<html>"),
            Err(": the endpoint returned HTTP 404; check that it is the jwks_uri"),
        ),
        (
            Reply::new(200, "text/html", "<html>"),
            Err(": the endpoint's response is not a JSON key set; check that"),
        ),
        (
            Reply::new(200, "application/json", "{\"keys\":[]}"),
            Err(": the endpoint's response has no key for the allowed algorithms"),
        ),
    ] {
        issuer.answers([reply]);
        let ended = check(&dir, &[]).await;
        let (text, part, code) = match wanted {
            Ok(part) => (&ended.stdout, part, 0),
            Err(part) => (&ended.stderr, part, 1),
        };
        let [line] = about(text, &["callers.jwt.jwks"])[..] else { panic!("{ended:?}") };
        assert!(line.contains(&format!("{url}{part}")), "{line}\nshould have {part}");
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
    at("http://127.0.0.1:1/jwks");
    let ended = check(&dir, &[]).await;
    let [line] = about(&ended.stderr, &["callers.jwt.jwks"])[..] else { panic!("{ended:?}") };
    assert!(
        line.contains("the endpoint did not respond: ") && line.contains("can be reached from here"),
        "{line}"
    );
}

#[tokio::test]
async fn a_risk_that_the_configuration_accepts_is_a_warning() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let dir = configured(&upstream, &authority);
    let file = fs::read_to_string(dir.file("c.toml")).unwrap();
    let file = file
        .replace("\"unix:s.sock\"", "\"0.0.0.0:0\"")
        .replace("[policy]", "")
        .replace("file = \"policy.cedar\"", "");
    replace(&dir.file("c.toml"), &file.replace("[audit]", "[audit]\non_failure = \"continue\""));
    let refused = check(&dir, &[]).await;
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{refused:?}");
    let mut command = countermand(&["check", "--config", "c.toml"]);
    command.current_dir(dir.file("")).env("COUNTERMAND_ALLOW_UNAUTHENTICATED", "true");
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warnings = about(&ended.stderr, &["server.listen", "audit.file"]);
    assert_eq!(warnings.len(), 2, "{ended:?}");
    assert!(
        warnings[0].contains("0.0.0.0:0 can be reached from beyond this machine, without a policy"),
        "{ended:?}"
    );
    assert!(
        warnings[1].contains("calls are not recorded while it cannot be written; remove audit.on_failure"),
        "{ended:?}"
    );
}
