//! `countermand check`: a line a finding.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    lifecycle::{
        google::{Google, Token},
        key::{ACCOUNT, Key},
    },
    support::process::{Ended, countermand, run},
};

/// A directory with a configuration `c.toml` of these sections; each `@name` in it is the key file of that
/// name, which asks for its tokens at the URL given with it, and is its owner's alone.
fn room(sections: &str, keys: &[(&str, &str)]) -> TempDir {
    let room = tempfile::tempdir().unwrap();
    for (name, token_url) in keys {
        let file = room.path().join(name);
        fs::write(&file, Key::generate().file(token_url)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(room.path().join("c.toml"), sections).unwrap();
    room
}

async fn check(room: &TempDir, more: &[&str]) -> Ended {
    run(countermand(&["check", "--config", "c.toml"]).args(more).current_dir(room)).await
}

/// One credential in front of `api`, whose key asks for its tokens at `token_url`.
fn emea(api: &str, token_url: &str) -> TempDir {
    let sections =
        format!("[upstream]\nurl = \"{api}\"\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n");
    room(&sections, &[("key.json", token_url)])
}

const SCOPE: &str = "https://www.googleapis.com/auth/androidmanagement";

#[tokio::test]
async fn what_is_right_is_told_up_to_the_token_that_could_be_had() {
    let google = Google::start().await;
    let room = emea(&google.url, &google.token_url());
    let ended = check(&room, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let begins = [
        "configuration: all settings are right".to_owned(),
        format!("upstream: {} was reached: HTTP 404 to a GET without a token", google.url),
        "credential emea: key.json can be read (owner ".to_owned(),
        format!("credential emea: service account {ACCOUNT}, scope {SCOPE}"),
        "credential emea: serves every enterprise that no other serves".to_owned(),
        format!("credential emea: token obtained by way of {}, valid for 1h", google.token_url()),
    ];
    assert_eq!(lines.len(), begins.len(), "{}", ended.stdout);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(&begin), "{line}\nshould begin\n{begin}");
    }
    assert_eq!(ended.stderr, "");
    assert_eq!(google.seen().assertions.len(), 1, "asked once");
    assert!(!ended.stdout.contains(&google.seen().tokens[0]), "the token is told to nobody");
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_told_with_its_cause_and_its_cure() {
    let google = Google::start().await;
    let url = google.token_url();
    let refused = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    for (answer, url, cause, cure) in [
        (Token::Other(400, refused), &*url, "HTTP 400: invalid_grant Invalid JWT Signature;", "clock"),
        (Token::Other(503, "<html>"), &url, "the token endpoint answered HTTP 503;", "try again later"),
        (Token::Other(200, "<html>"), &url, "something that is not JSON;", "token_uri"),
        (Token::Granted(3600), "http://127.0.0.1:1/token", "Connection refused", "can be reached"),
    ] {
        google.answer_token(answer);
        let ended = check(&emea(&google.url, url), &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 5, "{ended:?}");
        let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(
            line.starts_with(&format!("countermand: credential emea: no token by way of {url}: ")),
            "{line}"
        );
        assert!(line.contains(cause) && line.contains(cure), "{line}\nshould tell {cause} {cure}");
    }
}

#[tokio::test]
async fn an_api_that_is_not_reached_is_a_fault() {
    let google = Google::start().await;
    for (api, cause) in [
        ("http://127.0.0.1:1".to_owned(), "was not reached: "),
        // What speaks plain HTTP is not reached by TLS.
        (google.url.replace("http:", "https:"), "was not reached: "),
    ] {
        let ended = check(&emea(&api, &google.token_url()), &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(line.starts_with(&format!("countermand: upstream: {api} {cause}")), "{line}");
        assert!(line.contains("upstream.ca_certificates"), "{line}\nshould tell the cure");
        assert!(ended.stdout.contains("token obtained"), "all the rest is told too: {ended:?}");
    }
}

#[tokio::test]
async fn each_credential_is_told_of_in_its_turn_and_a_warning_is_no_fault() {
    let (one, other) = (Google::start().await, Google::start().await);
    let sections = format!(
        "[upstream]\nurl = \"{}\"\n\
         [[credentials]]\nname = \"one\"\nfile = \"one.json\"\nenterprises = [\"LC01*\", \"LC02ab\"]\n\
         [[credentials]]\nname = \"other\"\nfile = \"other.json\"\n",
        one.url
    );
    let room = room(&sections, &[("one.json", &one.token_url()), ("other.json", &other.token_url())]);
    fs::set_permissions(room.path().join("other.json"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = check(&room, &["--output", "json"]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(told["faults"], 0, "{told}");
    let findings = told["findings"].as_array().unwrap();
    let subjects: Vec<_> = findings.iter().map(|finding| finding["subject"].as_str().unwrap()).collect();
    let (of_one, of_other) = ("credential one", "credential other");
    let expected = [
        &["configuration", "upstream"][..],
        &[of_one, of_one, of_one, of_one],
        &[of_other, of_other, of_other, of_other],
    ];
    assert_eq!(subjects, expected.concat(), "{told}");
    assert!(findings.contains(&json!({
        "subject": of_one, "level": "ok", "finding": "serves LC01*, LC02ab", "cure": null,
    })));
    let warnings: Vec<_> = findings.iter().filter(|finding| finding["level"] == "warning").collect();
    let [warning] = warnings[..] else { panic!("{told}") };
    assert!(warning["finding"].as_str().unwrap().starts_with("every user of this machine can read "));
    assert!(warning["cure"].as_str().unwrap().starts_with("chmod 0640 "), "{warning}");

    let ended = check(&room, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
    assert!(line.starts_with("countermand: warning: credential other: every user of this machine"), "{line}");
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole_and_no_token_is_asked_for() {
    let google = Google::start().await;
    let key = [("key.json", &*google.token_url())];
    let wrong =
        "[server]\nlisten = []\ndrain_timeout = \"soon\"\n[[credentials]]\nname = \"a\"\nfile = \"key.json\"";
    let room = room(wrong, &key);
    let ended = check(&room, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 3, "{ended:?}");
    assert_eq!(ended.stdout, "");

    let ended = check(&room, &["--output", "json"]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended:?}");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(told["faults"], 2, "{told}");
    let first = &told["findings"][0];
    assert_eq!((&first["subject"], &first["level"]), (&json!("server.listen (line 2)"), &json!("fault")));
    assert_eq!(first["finding"], "the list is empty");
    assert!(!first["cure"].as_str().unwrap().is_empty());
    assert!(google.seen().assertions.is_empty());
}
