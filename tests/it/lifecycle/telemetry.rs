//! The telemetry listener, and the metrics of reloads.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
};

use nix::sys::signal::Signal;

use crate::{
    lifecycle::{
        caller::cancel,
        google::{Google, Token},
        service::{Service, listening},
    },
    support::{
        files::replace,
        http_page,
        metrics::{Scrape, scrape_until},
        process::{countermand, eventually, run},
    },
};

/// Starts a service with a telemetry listener.
async fn start(google: &Google) -> (Service, SocketAddr) {
    let service = Service::start_with(google, |command| {
        command.env("COUNTERMAND_TELEMETRY_LISTEN", "0.0.0.0:0");
    })
    .await;
    let bound = service.process.stderr.see(|log| listening(log, "listening for telemetry")).await;
    (service, ([127, 0, 0, 1], bound.port()).into())
}

async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = http_page::request(address, "GET", path, "*/*").await;
    (status, body)
}

#[tokio::test]
async fn the_telemetry_listener_has_the_states_without_their_causes() {
    let google = Google::start().await;
    let refused = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    google.answer_token(Token::Other(400, refused));
    let (service, telemetry) = start(&google).await;
    service.not_ready(&["Invalid JWT Signature."]).await;

    assert_eq!(page(telemetry, "/livez").await, (200, "ok\n".to_owned()));
    eventually("a credential without a token", async || {
        let states = (503, "not ready\ncredential default: without\n".to_owned());
        (page(telemetry, "/readyz").await == states).then_some(())
    })
    .await;
    let (status, head, json) = http_page::request(telemetry, "GET", "/readyz", "application/json").await;
    assert_eq!(status, 503);
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["credentials"][0]["state"], "without");
    let members: Vec<_> = json["credentials"][0].as_object().unwrap().keys().collect();
    assert_eq!(members, ["name", "state", "without_for_s"]);
    let metrics = Scrape::of(telemetry).await;
    assert_eq!(metrics.value("countermand_ready", &[]), 0.0);
    assert_eq!(metrics.value("countermand_credential_usable", &["credential=\"default\""]), 0.0);
    let failures = ["credential=\"default\"", "outcome=\"failure\""];
    assert!(metrics.value("countermand_token_refreshes_total", &failures) >= 1.0);
    assert_eq!(metrics.find("countermand_token_expiry_timestamp_seconds", &["credential=\"default\""]), None);
    assert!(!metrics.text.contains("invalid_grant") && !metrics.text.contains("Signature"));
    for path in ["/", "/statusz"] {
        assert_eq!(page(telemetry, path).await.0, 404);
    }

    google.answer_token(Token::Granted(3600));
    service.ready().await;
    assert_eq!(page(telemetry, "/readyz").await, (200, "ready\ncredential default: valid\n".to_owned()));
    assert_eq!(Scrape::of(telemetry).await.value("countermand_ready", &[]), 1.0);
}

#[tokio::test]
async fn the_telemetry_listener_answers_during_a_drain() {
    let google = Google::start().await;
    let (service, telemetry) = start(&google).await;
    service.ready().await;
    google.hold();
    let call = tokio::spawn(cancel(service.address, 1));
    google.arrived(1).await;
    service.process.signal(Signal::SIGTERM);
    eventually("the drain", async || {
        let draining = "not ready\ndraining: send no new calls\n";
        let (status, body) = page(telemetry, "/readyz").await;
        (status == 503 && body.starts_with(draining)).then_some(())
    })
    .await;
    assert_eq!(Scrape::of(telemetry).await.value("countermand_ready", &[]), 0.0);
    google.release();
    call.await.unwrap().unwrap();
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_telemetry_address_that_is_taken_is_an_error_at_start() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let key = crate::lifecycle::key::Key::generate();
    fs::write(dir.path().join("key.json"), key.file(&google.token_url())).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = ["serve", "--credentials", "key.json", "--listen", "127.0.0.1:0", "--admin-listen", "off"];
    let mut command = countermand(&words);
    let failed = run(command.current_dir(&dir).env("COUNTERMAND_TELEMETRY_LISTEN", &address)).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains(&format!("cannot listen on {address}")), "{failed:?}");
}

#[tokio::test]
async fn reloads_are_counted_and_a_refused_version_is_failing_until_the_next() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.cedar");
    let policy = "permit (principal, action, resource);\n";
    fs::write(&file, policy).unwrap();
    let service = Service::start_with(&google, |command| _ = command.arg("--policy").arg(&file)).await;
    service.ready().await;
    let values = |page: &Scrape| {
        let count = |outcome| page.value("countermand_reloads_total", &["kind=\"policy\"", outcome]);
        let failing = page.value("countermand_reload_failing", &["kind=\"policy\""]);
        (count("outcome=\"success\""), count("outcome=\"failure\""), failing)
    };
    assert_eq!(values(&Scrape::of(service.admin).await), (0.0, 0.0, 0.0));
    replace(&file, "permit (principal, action");
    scrape_until("a refused policy", service.admin, |page| values(page) == (0.0, 1.0, 1.0)).await;
    replace(&file, &format!("{policy}{policy}"));
    scrape_until("a reloaded policy", service.admin, |page| values(page) == (1.0, 1.0, 0.0)).await;
    let page = Scrape::of(service.admin).await;
    for kind in ["configuration", "credential", "tls", "authorities", "jwks"] {
        let kind = format!("kind=\"{kind}\"");
        assert_eq!(page.value("countermand_reload_failing", &[&kind]), 0.0);
    }
}

#[tokio::test]
async fn reloads_of_the_configuration_are_counted() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, "").unwrap();
    let service = Service::start_with(&google, |command| _ = command.arg("--config").arg(&file)).await;
    service.ready().await;
    let values = |page: &Scrape| {
        let count = |outcome| page.value("countermand_reloads_total", &["kind=\"configuration\"", outcome]);
        let failing = page.value("countermand_reload_failing", &["kind=\"configuration\""]);
        (count("outcome=\"success\""), count("outcome=\"failure\""), failing)
    };
    for (content, expected) in [("[server", (0.0, 1.0, 1.0)), ("[server]\n", (1.0, 1.0, 0.0))] {
        replace(&file, content);
        service.process.signal(Signal::SIGHUP);
        scrape_until("a reload", service.admin, |page| values(page) == expected).await;
    }
}
