//! Changes of the key file while the service runs.

use std::{fs, os::unix::fs::symlink};

use nix::{
    sys::{signal::Signal::SIGTERM, stat::Mode},
    unistd::mkfifo,
};
use serde_json::Value;

use crate::{
    lifecycle::{
        caller::{begin_held, cancel},
        google::{Google, Token},
        key::Key,
        service::Service,
    },
    support::{files::replace, process::eventually},
};

/// Whether `key` signed the latest assertion.
fn signed_latest(google: &Google, key: &Key) -> bool {
    google.seen().assertions.last().is_some_and(|assertion| key.signed(assertion))
}

#[tokio::test]
async fn a_new_key_is_reloaded_and_no_call_is_dropped() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    assert!(signed_latest(&google, &service.key));
    let in_flight = begin_held(&google, service.address).await;

    let next = Key::generate();
    replace(&service.key_file(), &next.file(&google.token_url()));
    google.saw(|seen| seen.tokens.len() == 2).await;
    assert!(signed_latest(&google, &next) && !signed_latest(&google, &service.key));
    service.process.stderr.has("the credential's file changed: reloaded").await;
    google.release();
    in_flight.await.unwrap().unwrap();

    assert_eq!(service.get("/readyz").await.0, 200);
    let bearer = |nth: usize| format!("Bearer {}", google.seen().tokens[nth]);
    assert_eq!(google.seen().authorizations, [bearer(0)], "the call used the old key's token");
    eventually("a call uses the new key's token", async || {
        cancel(service.address, 2).await.unwrap();
        (google.seen().authorizations.last() == Some(&bearer(1))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broken_key_is_on_readyz_and_the_old_key_stays_active() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    let next = Key::generate();
    let whole = next.file(&google.token_url());
    let half = &whole[..whole.len() / 2];
    let not_a_key = whole.replace(&next.secret_lines()[3], "");
    for (broken, cause) in [
        (half, "is not JSON"),
        ("{}", "must be service_account, authorized_user, "),
        (&not_a_key, "must be an RSA key in PEM"),
        (&next.file("http://example.com/token"), "must be an https URL"),
    ] {
        replace(&service.key_file(), broken);
        service.process.stderr.has(cause).await;
        assert!(service.process.stderr.text().contains("is broken: the old one stays in use"));
        cancel(service.address, 1).await.unwrap();
        let (status, page) = service.get("/readyz").await;
        assert_eq!(status, 200);
        let line = "; the changed file gives no token: it is broken, and the old one stays in use: ";
        assert!(page.contains(line) && page.contains(cause), "{page}");
        let (_, json) = service.get_as("/readyz", "application/json").await;
        let page: Value = serde_json::from_str(&json).unwrap();
        let line = &page["credentials"][0];
        assert_eq!((&line["state"], &line["cause"]), (&Value::from("valid"), &Value::Null), "{json}");
        assert!(line["changed_file"].as_str().unwrap().contains(cause), "{json}");
    }
    assert_eq!(google.seen().assertions.len(), 1, "a token was requested with a broken key");

    replace(&service.key_file(), &whole);
    google.saw(|seen| seen.tokens.len() == 2).await;
    assert!(signed_latest(&google, &next), "the whole key is reloaded");
    eventually("the page no longer has the broken file", async || {
        (!service.get("/readyz").await.1.contains("changed file")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pipe_at_the_path_of_the_key_is_reported_and_blocks_nothing() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    fs::remove_file(service.key_file()).unwrap();
    mkfifo(&service.key_file(), Mode::S_IRWXU).unwrap();
    service.process.stderr.has("failed to read a watched file; its last content stays active").await;
    assert!(service.process.stderr.text().contains("it is not a regular file"));
    cancel(service.address, 1).await.unwrap();

    service.process.signal(SIGTERM);
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_refused_key_is_on_readyz_and_the_old_key_stays_active() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    let refused = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    google.answer_token(Token::Other(400, refused));
    replace(&service.key_file(), &Key::generate().file(&google.token_url()));
    let page = eventually("the changed file is on the page", async || {
        let (status, page) = service.get("/readyz").await;
        (status == 200 && page.contains("s; the changed file gives no token: ")).then_some(page)
    })
    .await;
    assert!(page.starts_with("ready\ncredential default: valid for "), "{page}");
    assert!(page.contains("invalid_grant") && !page.contains("not renewed"), "{page}");
    let (_, json) = service.get_as("/readyz", "application/json").await;
    let page: Value = serde_json::from_str(&json).unwrap();
    let line = &page["credentials"][0];
    assert_eq!((&line["state"], &line["cause"]), (&Value::from("valid"), &Value::Null), "{json}");
    assert!(line["changed_file"].as_str().unwrap().contains("invalid_grant"), "{json}");
    cancel(service.address, 1).await.unwrap();
}

#[tokio::test]
async fn a_swapped_kubernetes_symlink_is_followed() {
    let google = Google::start().await;
    let mount = tempfile::tempdir().unwrap();
    let (first, second) = (Key::generate(), Key::generate());
    let at = |name: &str| mount.path().join(name);
    for (version, key) in [("..1", &first), ("..2", &second)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("key.json"), key.file(&google.token_url())).unwrap();
    }
    // The kubelet mounts a secret like this: one directory per version, and two links to the current file.
    symlink("..1", at("..data")).unwrap();
    symlink("..data/key.json", at("key.json")).unwrap();
    let service = Service::start_with(&google, |command| {
        _ = command.arg("--credentials").arg(at("key.json"));
    });
    let service = service.await;
    service.ready().await;
    assert!(signed_latest(&google, &first));

    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    google.saw(|seen| seen.tokens.len() == 2).await;
    assert!(signed_latest(&google, &second));
    cancel(service.address, 1).await.unwrap();
}
