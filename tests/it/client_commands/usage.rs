//! Errors that are detected before any call.

use crate::client_commands::{countermand, object};

#[tokio::test]
async fn contradictory_flags_and_unusable_files_fail_before_any_call() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty");
    std::fs::write(&file, "").unwrap();
    let file = file.display();
    for (flags, code) in [
        (format!("--server unix:/s --tls-ca {file}"), 2),
        (format!("--server http://h --tls-ca {file}"), 2),
        (format!("--tls-ca {file}"), 78),
        ("--tls-ca /nowhere/ca.pem".to_owned(), 78),
        (format!("--tls-cert {file} --tls-key {file}"), 78),
    ] {
        let ended = countermand(&format!("cancel n {flags}")).await;
        assert_eq!((ended.0, ended.1.as_str()), (code, ""), "{flags} {ended:?}");
        assert_eq!(ended.2.lines().count(), 1, "{flags} {ended:?}");
        let ended = countermand(&format!("cancel n {flags} --output json")).await;
        assert_eq!(ended.0, code, "{flags}");
        assert_eq!(object(&ended)["name"], "n");
    }
    for usage in [
        "cancel",
        "cancel n --server nowhere",
        "cancel n --timeout 0s",
        "cancel n --output yaml",
        "cancel n --tls-cert c",
        "get n --tls-key k",
        "list n --page-size 0",
        "probe --output json",
        "launch",
    ] {
        assert_eq!(countermand(usage).await.0, 2, "{usage}");
    }
}

#[tokio::test]
async fn an_invalid_configuration_is_78_for_serve_and_1_for_check() {
    for (line, wanted) in [("serve --listen 0.0.0.0:1 --policy p", 78), ("check --config /nowhere.toml", 1)] {
        let (code, stdout, stderr) = countermand(line).await;
        assert_eq!((code, stdout.as_str()), (wanted, ""), "{line}");
        let mut lines = stderr.lines();
        let first = lines.next().unwrap();
        let errors = lines.count();
        let count = if errors == 1 { "1 error ".to_owned() } else { format!("{errors} errors ") };
        assert!(first.starts_with(&format!("countermand: {count}in the configuration")), "{stderr}");
    }
}
