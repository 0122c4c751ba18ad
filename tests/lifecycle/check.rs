//! `countermand check`: a line a finding.

use crate::{
    google::{Google, Token},
    key::{ACCOUNT, Key},
    process::{Ended, countermand, run},
};

/// Checks a configuration whose key asks for its tokens at `token_url`.
async fn check(token_url: &str, more: &str) -> Ended {
    let room = tempfile::tempdir().unwrap();
    let file = format!("{more}\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n");
    std::fs::write(room.path().join("c.toml"), file).unwrap();
    std::fs::write(room.path().join("key.json"), Key::generate().file(token_url)).unwrap();
    run(countermand(&["check", "--config", "c.toml"]).current_dir(&room)).await
}

#[tokio::test]
async fn what_is_right_is_told_with_the_token_that_could_be_had() {
    let google = Google::start().await;
    let ended = check(&google.token_url(), "").await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = ["the configuration is right", "credential emea: ACCOUNT: token obtained, valid for 1h", ""];
    assert_eq!(ended.stdout, lines.join("\n").replace("ACCOUNT", ACCOUNT));
    assert_eq!(ended.stderr, "");
    assert_eq!(google.seen().assertions.len(), 1, "asked once");
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
        let ended = check(url, "").await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stdout, "the configuration is right\n");
        let [line] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(line.starts_with(&format!("countermand: credential emea: {ACCOUNT}: ")), "{line}");
        assert!(line.contains(cause) && line.contains(cure), "{line}\nshould tell {cause} {cure}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole_and_no_token_is_asked_for() {
    let google = Google::start().await;
    let ended = check(&google.token_url(), "[server]\nlisten = []\ndrain_timeout = \"soon\"").await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 3, "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(google.seen().assertions.is_empty());
}
