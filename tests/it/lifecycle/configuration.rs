//! Config errors, as the program prints them. Unit tests beside the settings cover each error.

use crate::support::process::{countermand, run};

const INVALID: &str = r#"
[server]
listen = ["0.0.0.0:50051"]
drain_timeout = "soon"
drian_timeout = "5s"
[upstream]
url = "http://example.com"
[[credentials]]
name = "emea"
file = "broken.json"
"#;

#[tokio::test]
async fn serve_prints_every_config_error_at_once_and_exits_with_78() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), INVALID).unwrap();
    std::fs::write(dir.path().join("broken.json"), "{\"private_key\": \"hunter2").unwrap();
    let mut command = countermand(&["serve", "--config", "c.toml"]);
    command.current_dir(&dir).env("COUNTERMAND_LISTNE", "127.0.0.1:1");
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let begins = [
        "countermand: 6 errors in the configuration (c.toml):",
        "COUNTERMAND_LISTNE: there is no such variable; did you mean COUNTERMAND_LISTEN?",
        "server.listen (line 3): 0.0.0.0:50051 can be reached from beyond this machine",
        "server.drain_timeout (line 4): this is not a duration",
        "server.drian_timeout (line 5): there is no such key; did you mean drain_timeout?",
        "upstream.url (line 7): plain http would send the token in clear",
        "credentials.file (line 10): the file is not JSON",
    ];
    assert_eq!(lines.len(), begins.len(), "{}", ended.stderr);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}\nshould begin\n{begin}");
    }
    assert_eq!(ended.stdout, "");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
}

#[tokio::test]
async fn an_invalid_log_filter_is_a_config_error() {
    let dir = tempfile::tempdir().unwrap();
    let key = crate::lifecycle::key::Key::generate();
    std::fs::write(dir.path().join("key.json"), key.file("http://127.0.0.1:1/token")).unwrap();
    let mut command = countermand(&["serve", "--credentials", "key.json", "--listen", "127.0.0.1:0"]);
    let ended = run(command.current_dir(&dir).env("RUST_LOG", "countermand=loud")).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("RUST_LOG: "), "{ended:?}");
}

#[tokio::test]
async fn an_invalid_command_line_exits_with_2() {
    for words in
        [&["serve", "--lisen", "127.0.0.1:0"][..], &["serve", "--log-format", "xml"], &["server"], &[]]
    {
        let ended = run(&mut countermand(words)).await;
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains("--help"), "{words:?}: {ended:?}");
    }
}

#[tokio::test]
async fn every_error_of_a_quota_is_printed_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let key = crate::lifecycle::key::Key::generate();
    std::fs::write(dir.path().join("key.json"), key.file("http://127.0.0.1:1/token")).unwrap();
    let sections = r#"
[[credentials]]
name = "emea"
file = "key.json"
project = "No Project"
[[quota]]
project = "p"
limit = 10
burst = 10
[[quota]]
project = "p"
perod = "60s"
[[quota]]
mode = "both"
[[quota]]
[quota_shared]
url = "rediss://me:hunter2@valkey"
"#;
    std::fs::write(dir.path().join("c.toml"), sections).unwrap();
    let ended = run(countermand(&["serve", "--config", "c.toml"]).current_dir(&dir)).await;
    assert_eq!((ended.code, &*ended.stdout), (Some(78), ""), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let begins = [
        "countermand: 8 errors in the configuration (c.toml):",
        "quota_shared.replicas: this is missing; give the number of replicas",
        "credentials.project (line 5): this is not the id of a Google project; give an id like",
        "quota.burst (line 9): a burst of 10 leaves nothing of the limit of 10 for the rate; give less",
        "quota.project (line 11): another section is for this project too (line 7); give each project one",
        "quota.perod (line 12): there is no such key; did you mean period?",
        "quota.mode (line 14): there is no such value; give enforce or shadow",
        "quota (line 15): this section is for each project that no other names, as another is (line 13); give",
        "quota_shared.url (line 17): the URL holds a user or a password; leave it out, and give username",
    ];
    assert_eq!(lines.len(), begins.len(), "{}", ended.stderr);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}\nshould begin\n{begin}");
    }
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
}
