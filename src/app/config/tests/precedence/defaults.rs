//! The defaults.

use std::{path::Path, time::Duration};

use super::{credential, directory, load, polling, tcp};
use crate::{
    admin::settings::Admin,
    amapi::settings::Upstream,
    app::config::Settings,
    audit::settings::{Audit, Destination, OnFailure},
    policy::settings::{PolicyMode, PolicySettings},
    server::settings::{Callers, Limits, Server},
    telemetry::settings::{LogSettings, Telemetry},
};

/// The settings of `--credentials @/key.json` alone. The URLs come from `url`, because the test compares them as text.
pub(super) fn defaults(directory: &Path, url: &Settings) -> Settings {
    Settings {
        server: Server {
            listen: vec![tcp("127.0.0.1:50051")],
            drain_timeout: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
            unix_socket_mode: 0o600,
            unix_socket_owner: None,
        },
        limits: Limits {
            max_connections: 10_000,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
            max_concurrent_calls: 4096,
            max_calls_per_caller: None,
            max_request_bytes: 65_536,
            max_header_list_bytes: 65_536,
            max_streams_per_connection: 1024,
            max_pending_resets: 256,
            max_resets_per_window: 4096,
            reset_window: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_connection_age: Some(Duration::from_secs(1800)),
            max_connection_age_grace: Duration::from_secs(660),
        },
        tls: None,
        admin: Admin { listen: Some("127.0.0.1:9464".parse().unwrap()), quit: false },
        upstream: Upstream {
            url: url.upstream.url.clone(),
            ca_certificates: None,
            iam_credentials_url: url.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(30),
        },
        credentials: vec![credential("default", directory.join("key.json"))],
        policy: PolicySettings { file: None, mode: PolicyMode::Enforce },
        callers: Callers { forwarded_client_cert: false, linkerd_client_id: false, mesh_proxies: None },
        jwt: None,
        polling: polling(1, 20, 240, 2000, 3600),
        guard: None,
        audit: Audit { file: Destination::Stdout, on_failure: OnFailure::Fail },
        telemetry: Telemetry { listen: None },
        quota: Vec::new(),
        quota_shared: None,
        log: LogSettings { log_format: None },
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let directory = directory();
    let directory = directory.as_path();
    let config = load(directory, "--credentials @/key.json", &[]).unwrap();
    assert_eq!(config, defaults(directory, &config));
    assert_eq!(config.upstream.url.as_str(), "https://androidmanagement.googleapis.com");
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "https://iamcredentials.googleapis.com");
    // An empty file changes nothing. Google's variable is the last source of a credential.
    let google = [("GOOGLE_APPLICATION_CREDENTIALS", "@/key.json")];
    assert_eq!(load(directory, "--config @/empty.toml", &google).unwrap(), config);
}
