//! The operator's pages of the admin port: `/`, `/statusz`, `/statusz.json` and `/quitquitquit`.

use std::net::SocketAddr;

use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};

use crate::{
    lifecycle::{
        caller::{begin, begin_held, cancel, cancel_by, connect},
        google::{Google, Token},
        service::{Service, listening},
    },
    support::http_page,
};

const OPERATOR_PAGES: [&str; 3] = ["/", "/statusz", "/statusz.json"];

async fn page(admin: SocketAddr, path: &str) -> (u16, String, String) {
    http_page::send(admin, "GET", path, &[("host", "localhost:9464")], "").await
}

async fn status(admin: SocketAddr) -> Value {
    let (status, head, body) = page(admin, "/statusz.json").await;
    assert!(status == 200 && head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    serde_json::from_str(&body).unwrap()
}

async fn quit(admin: SocketAddr) -> (u16, String, String) {
    http_page::send(admin, "POST", "/quitquitquit", &[("host", "localhost")], "").await
}

async fn start_with_quit(google: &Google) -> Service {
    Service::start_with(google, |command| _ = command.env("COUNTERMAND_ADMIN_QUIT", "true")).await
}

fn method<'a>(status: &'a Value, name: &str) -> &'a Value {
    let methods = status["calls"]["methods"].as_array().unwrap();
    methods.iter().find(|method| method["method"] == name).unwrap()
}

#[tokio::test]
async fn the_status_has_the_calls_the_credential_and_the_configuration() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    cancel(service.address, 1).await.unwrap();
    google.answer_cancel(404, r#"{"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}"#);
    cancel(service.address, 2).await.unwrap_err();
    google.hold();
    let held = begin(service.address, 3);
    google.arrived(3).await;

    let json = status(service.admin).await;
    assert_eq!((&json["state"], &json["version"]), (&"ready".into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(json["uptime_s"].as_u64().unwrap() < 300);
    assert_eq!((&json["slot_s"], &json["window_s"]), (&5.into(), &600.into()));
    let credential = &json["credentials"][0];
    assert_eq!((&credential["name"], &credential["state"]), (&"default".into(), &"valid".into()));
    assert!((3000..=3600).contains(&credential["valid_for_s"].as_u64().unwrap()), "{credential}");
    assert!(credential["expires"].as_str().unwrap().ends_with('Z'), "{credential}");
    assert_eq!((&credential["fetches"], &credential["failed_fetches"]), (&1.into(), &0.into()));
    let listeners = &json["listeners"];
    assert_eq!(listeners[0]["setting"], "server.listen");
    assert_eq!(listeners[0]["address"], service.address.to_string());
    assert_eq!(listeners[1]["address"], service.admin.to_string());

    let cancels = method(&json, "CancelOperation");
    assert_eq!(
        [&cancels["ok"], &cancels["caller_errors"], &cancels["server_errors"], &cancels["in_flight"]],
        [1, 1, 0, 1]
    );
    assert!(cancels["p99_ms"].as_f64().unwrap() >= cancels["p50_ms"].as_f64().unwrap());
    assert_eq!(method(&json, "GetOperation")["p50_ms"], Value::Null);
    assert_eq!(json["calls"]["in_flight"], 1);
    let recent = json["calls"]["recent"].as_array().unwrap();
    let codes: Vec<_> = recent.iter().map(|call| call["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["NOT_FOUND", "OK"]);
    assert_eq!(recent[0]["method"], "CancelOperation");
    let mut members: Vec<_> = recent[0].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["code", "duration_ms", "method", "time"]);
    let upstream = &json["upstream"];
    assert_eq!([&upstream["successes"], &upstream["client_errors"], &upstream["server_errors"]], [1, 1, 0]);
    assert_eq!(upstream["last_error"]["code"], "404");
    assert!(json["connections"]["tcp"].as_u64().unwrap() >= 1);
    assert_eq!((&json["operations"]["waiters"], &json["operations"]["pollers"]), (&0.0.into(), &0.0.into()));
    let settings = json["configuration"].as_array().unwrap();
    let setting = |key: &str| {
        let setting = settings.iter().find(|setting| setting["key"] == key).unwrap();
        (setting["value"].as_str().unwrap(), setting["source"].as_str().unwrap())
    };
    assert_eq!(setting("upstream.url"), (google.url.as_str(), "--upstream-url"));
    assert_eq!(setting("server.drain_timeout"), ("25s", "default"));
    assert_eq!(setting("admin.quit"), ("false", "default"));

    let (code, head, html) = page(service.admin, "/statusz").await;
    assert!(code == 200 && head.contains("content-type: text/html; charset=utf-8"), "{head}");
    for part in
        ["CancelOperation", "NOT_FOUND", "default", "--upstream-url", &google.url, "<svg", "upstream.url"]
    {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("<script") && !html.contains("http-equiv=\"refresh\""));
    let (_, _, refreshing) = page(service.admin, "/statusz?refresh").await;
    assert!(refreshing.contains("<meta http-equiv=\"refresh\" content=\"10\">"));
    google.release();
    held.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn the_status_and_the_metrics_have_the_budget_of_a_project_and_what_google_refused() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("quota.toml");
    // One cancel, and the next after 20 minutes.
    let sections = "[[quota]]\nlimit = 4\nperiod = \"1h\"\nburst = 1\n";
    std::fs::write(
        &config,
        format!("{sections}[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\nproject = \"mdm\"\n"),
    )
    .unwrap();
    let service = Service::start_with(&google, |command| {
        command.env_remove("COUNTERMAND_CREDENTIALS").arg("--config").arg(&config);
        std::fs::copy(
            command.as_std().get_current_dir().unwrap().join("key.json"),
            dir.path().join("key.json"),
        )
        .unwrap();
    })
    .await;
    service.ready().await;
    assert_eq!(status(service.admin).await["quota"]["projects"], json!([]));
    let (_, _, html) = page(service.admin, "/statusz").await;
    assert!(!html.contains("id=\"quota\""), "nothing was paced yet: {html}");

    let body = r#"{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded."}}"#;
    google.answer_cancel(429, body);
    cancel(service.address, 1).await.unwrap_err();
    let refused = cancel(service.address, 2).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let quota = &status(service.admin).await["quota"];
    let decisions = ["immediate", "delayed", "refused", "abandoned"].map(|decision| &quota[decision]);
    assert_eq!(decisions, [1, 0, 1, 0]);
    assert_eq!(quota["shared_up"], Value::Null);
    let budget = &quota["projects"][0];
    let of_budget =
        ["project", "mode", "limit", "google_refusals", "replicas"].map(|member| budget[member].clone());
    assert_eq!(of_budget, [json!("mdm"), json!("enforce"), json!(4), json!(1), Value::Null]);
    assert_eq!(budget["queued"], json!({"cancel": 0, "read": 0, "poll": 0}));
    let hold = budget["hold_s"].as_f64().unwrap();
    assert!((30.0..=60.0).contains(&hold), "{hold}");
    let factor = budget["rate"].as_f64().unwrap() / budget["configured_rate"].as_f64().unwrap();
    assert!((factor - 0.7).abs() < 0.001, "{factor}");
    let (_, _, html) = page(service.admin, "/statusz").await;
    assert!(html.contains("id=\"quota\"") && html.contains(">mdm<"), "{html}");
    let (_, _, metrics) = page(service.admin, "/metrics").await;
    for series in [
        r#"countermand_quota_queries_total{project="mdm",class="cancel",decision="immediate"} 1.0"#,
        r#"countermand_quota_queries_total{project="mdm",class="cancel",decision="refused"} 1.0"#,
        r#"countermand_quota_google_refusals_total{project="mdm"} 1.0"#,
        r#"countermand_quota_limit_queries{project="mdm"} 4.0"#,
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series}: {metrics}");
    }
}

#[tokio::test]
async fn a_failing_credential_is_shown_with_its_cause() {
    let google = Google::start().await;
    let refused = r#"{"error": "invalid_grant", "error_description": "Invalid <b>JWT</b> Signature."}"#;
    google.answer_token(Token::Other(400, refused));
    let service = Service::start(&google).await;
    service.not_ready(&["Signature"]).await;
    let json = status(service.admin).await;
    assert_eq!((&json["state"], &json["credentials"][0]["state"]), (&"not_ready".into(), &"without".into()));
    assert_eq!(json["credentials"][0]["expires"], Value::Null);
    assert!(json["credentials"][0]["cause"].as_str().unwrap().contains("<b>JWT</b>"), "{json}");
    let (_, _, html) = page(service.admin, "/statusz").await;
    assert!(html.contains("&lt;b&gt;JWT&lt;/b&gt;") && !html.contains("<b>JWT"), "{html}");
}

#[tokio::test]
async fn the_configuration_is_escaped() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/<img src=x>&\"'.sock", dir.path().display());
    let service = Service::start_with(&google, |command| _ = command.args(["--listen", &socket])).await;
    assert_eq!(status(service.admin).await["listeners"][1]["address"], *socket);
    let (_, _, html) = page(service.admin, "/statusz").await;
    assert!(html.contains("/&lt;img src=x&gt;&amp;&quot;"), "{html}");
    assert!(!html.contains("<img"), "{html}");
}

#[tokio::test]
async fn the_pages_have_no_text_of_callers_and_operations_and_no_secret() {
    let google = Google::start().await;
    let service = Service::start_with(&google, |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=collectors-key");
    })
    .await;
    service.ready().await;
    cancel(service.address, 987_654).await.unwrap();
    let channel = connect(service.address).await.unwrap();
    cancel_by(channel, "enterprises/<secret>/devices/x".to_owned()).await.unwrap_err();
    assert_eq!(status(service.admin).await["calls"]["recent"].as_array().unwrap().len(), 2);
    for path in OPERATOR_PAGES {
        let (code, _, body) = page(service.admin, path).await;
        assert_eq!(code, 200);
        for part in
            ["LC01", "enterprises/", "987654", "secret", "anonymous", "callers-own-token", "collectors-key"]
        {
            assert!(!body.contains(part), "{path}: {part}: {body}");
        }
    }
}

#[tokio::test]
async fn the_pages_are_for_loopback_hosts_and_addresses() {
    let google = Google::start().await;
    let service = start_with_quit(&google).await;
    let send = |method: &'static str, path: &'static str, headers: &'static [(&str, &str)]| async move {
        http_page::send(service.admin, method, path, headers, "").await
    };
    for path in OPERATOR_PAGES {
        let (code, head, _) = send("GET", path, &[("host", "[::1]:1")]).await;
        assert!(code == 200 && head.contains("x-content-type-options: nosniff"), "{path}: {head}");
        assert_eq!(send("GET", path, &[("host", "10.0.0.1:9464")]).await.0, 200, "{path}");
        let (code, head, body) = send("HEAD", path, &[("host", "localhost")]).await;
        assert!(code == 200 && body.is_empty() && !head.contains("content-length: 0"), "{path}: {head}");
        for method in ["GET", "HEAD", "POST"] {
            let (code, _, _) = send(method, path, &[("host", "rebound.example")]).await;
            assert_eq!(code, 403, "{method} {path}");
        }
        let (code, head, _) = send("POST", path, &[("host", "localhost")]).await;
        assert!(code == 405 && head.contains("allow: get,head"), "{head}");
    }
    for path in ["/", "/statusz"] {
        let (_, head, _) = send("GET", path, &[("host", "localhost")]).await;
        for part in
            ["content-security-policy: default-src 'none'; style-src 'sha256-", "frame-ancestors 'none'"]
        {
            assert!(head.contains(part), "{head}");
        }
    }
    for refused in [
        &[("host", "rebound.example")][..],
        &[("host", "10.0.0.1")],
        &[("host", "localhost"), ("origin", "http://localhost:9464")],
        &[("host", "localhost"), ("origin", "null")],
    ] {
        assert_eq!(send("POST", "/quitquitquit", refused).await.0, 403, "{refused:?}");
    }
    let (code, head, _) = send("GET", "/quitquitquit", &[("host", "localhost")]).await;
    assert!(code == 405 && head.contains("allow: post"), "{head}");
    service.ready().await;
}

#[tokio::test]
async fn a_long_body_is_refused() {
    let google = Google::start().await;
    let service = start_with_quit(&google).await;
    let body = "x".repeat(5000);
    let (code, _, _) =
        http_page::send(service.admin, "POST", "/quitquitquit", &[("host", "localhost")], &body).await;
    assert_eq!(code, 400);
    service.ready().await;
}

#[tokio::test]
async fn quit_drains_as_a_signal_does() {
    let google = Google::start().await;
    let service = start_with_quit(&google).await;
    service.ready().await;
    let held = begin_held(&google, service.address).await;
    let (code, _, body) = quit(service.admin).await;
    assert_eq!((code, body.as_str()), (200, "draining\n"));
    service.not_ready(&["draining"]).await;
    assert_eq!(status(service.admin).await["state"], "draining");
    // The signal of an orchestrator does not end the drain that has begun.
    service.process.signal(SIGTERM);
    service.process.stderr.has("received a signal during the drain").await;
    google.release();
    held.await.unwrap().unwrap();
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("/quitquitquit was requested"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_second_signal_after_quit_ends_the_drain() {
    let google = Google::start().await;
    let service = start_with_quit(&google).await;
    service.ready().await;
    let held = begin_held(&google, service.address).await;
    quit(service.admin).await;
    service.not_ready(&["draining"]).await;
    service.process.signal(SIGTERM);
    service.process.stderr.has("received a signal during the drain").await;
    service.process.signal(SIGTERM);
    assert_eq!(service.process.end().await.code, Some(1));
    held.abort();
}

#[tokio::test]
async fn quit_is_off_by_default_and_not_on_the_telemetry_listener() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    let (code, _, body) = quit(service.admin).await;
    assert_eq!((code, body.as_str()), (403, "this needs the setting admin.quit\n"));
    service.ready().await;

    let service = Service::start_with(&google, |command| {
        command.env("COUNTERMAND_ADMIN_QUIT", "true").env("COUNTERMAND_TELEMETRY_LISTEN", "127.0.0.1:0");
    })
    .await;
    let telemetry = service.process.stderr.see(|log| listening(log, "listening for telemetry")).await;
    assert_eq!(quit(telemetry).await.0, 404);
    for path in OPERATOR_PAGES {
        assert_eq!(page(telemetry, path).await.0, 404, "{path}");
    }
    service.ready().await;
}
