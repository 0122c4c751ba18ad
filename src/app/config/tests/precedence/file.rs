//! A complete configuration file, without flags and variables.

use std::{path::Path, time::Duration};

use super::{algorithms, credential, directory, identities, load, polling, tcp, tls};
use crate::{
    admin::settings::Admin,
    amapi::settings::Upstream,
    app::config::Settings,
    audit::settings::{Audit, Destination, OnFailure},
    credentials::Pattern,
    operations::{guard::GuardLimit, settings::Polling},
    policy::settings::{PolicyMode, PolicySettings},
    quota::{
        settings::{QuotaMode, QuotaSettings},
        shared::settings::StoreConfig,
    },
    server::settings::{Callers, Jwks, Jwt, Limits, ListenAddress, Owner, Server},
    telemetry::settings::{LogSettings, Telemetry},
};

pub(super) const FULL: &str = r#"
[server]
listen = ["127.0.0.1:1", "unix:c.sock"]
drain_timeout = "1s"
drain_delay = "2s"
unix_socket_mode = "0660"
unix_socket_owner = "1:2"
max_connections = 11
max_handshakes = 12
handshake_timeout = "13s"
max_concurrent_calls = 1
max_calls_per_caller = 11
max_request_bytes = 1024
max_header_list_bytes = 2048
max_streams_per_connection = 14
max_pending_resets = 15
max_resets_per_window = 16
reset_window = "17s"
keepalive_interval = "18s"
keepalive_timeout = "19s"
max_connection_age = "off"
max_connection_age_grace = "20s"
[server.tls]
certificate = "ca.pem"
private_key = "ca.key"
client_ca = "ca.pem"
[admin]
quit = true
listen = "off"
[upstream]
url = "https://file.example/prefix/"
ca_certificates = "ca.pem"
iam_credentials_url = "http://localhost:5"
timeout = "1m 30s"
[[credentials]]
name = "emea"
file = "key.json"
impersonate = "proxy@p.iam.gserviceaccount.com"
project = "p-2"
enterprises = ["LC01*", "LC02ab"]
[[credentials]]
name = "others"
file = "other.json"
[policy]
file = "policy.cedar"
mode = "shadow"
[callers]
forwarded_client_cert = true
linkerd_client_id = true
mesh_proxies = ["spiffe://corp.example/proxy", "dns:proxy.example"]
[callers.jwt]
issuer = "https://file.example"
audience = "countermand"
jwks = "jwks.json"
algorithms = ["ES256"]
[polling]
min_interval = "1ms"
max_interval = "1h"
max_wait = "30s"
cache_entries = 0
cache_max_age = "1m"
[guard]
pending_wipes = 50
period = "1h"
[audit]
file = "audit.jsonl"
on_failure = "continue"
[telemetry]
listen = "127.0.0.1:9465"
[[quota]]
project = "example.com:p-1"
limit = 1000
period = "100s"
burst = 20
mode = "shadow"
[[quota]]
[quota_shared]
url = "rediss://valkey-0:26379,valkey-1:26379/2"
username = "countermand"
password_file = "valkey-password"
ca_certificates = "ca.pem"
sentinel_master = "main"
replicas = 3
"#;

/// The settings of `--config @/full.toml` alone. The URLs come from `url`, because the test compares them as text.
fn full(directory: &Path, url: &Settings) -> Settings {
    let mut emea = credential("emea", directory.join("key.json"));
    emea.definition.impersonate = Some("proxy@p.iam.gserviceaccount.com".to_owned());
    emea.definition.project = Some("p-2".to_owned());
    emea.enterprises = ["LC01*", "LC02ab"].map(|text| Pattern::parse(text).unwrap()).into();
    Settings {
        server: Server {
            listen: vec![tcp("127.0.0.1:1"), ListenAddress::Unix(directory.join("c.sock"))],
            drain_timeout: Duration::from_secs(1),
            drain_delay: Duration::from_secs(2),
            unix_socket_mode: 0o660,
            unix_socket_owner: Some(Owner { user: Some(1), group: Some(2) }),
        },
        limits: limits_of_the_file(),
        tls: Some(tls(directory, "ca")),
        admin: Admin { listen: None, quit: true },
        upstream: Upstream {
            url: url.upstream.url.clone(),
            ca_certificates: Some(directory.join("ca.pem")),
            iam_credentials_url: url.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(90),
        },
        credentials: vec![emea, credential("others", directory.join("other.json"))],
        policy: PolicySettings { file: Some(directory.join("policy.cedar")), mode: PolicyMode::Shadow },
        callers: Callers {
            forwarded_client_cert: true,
            linkerd_client_id: true,
            mesh_proxies: Some(identities(["spiffe://corp.example/proxy", "dns:proxy.example"])),
        },
        jwt: Some(Jwt {
            issuer: "https://file.example".to_owned(),
            audiences: vec!["countermand".to_owned()],
            algorithms: algorithms("ES256"),
            jwks: Jwks::File(directory.join("jwks.json")),
        }),
        polling: Polling { min_interval: Duration::from_millis(1), ..polling(0, 3600, 30, 0, 60) },
        guard: Some(GuardLimit { pending_wipes: 50, period: Duration::from_secs(3600) }),
        audit: Audit {
            file: Destination::File(directory.join("audit.jsonl")),
            on_failure: OnFailure::Continue,
        },
        telemetry: Telemetry { listen: Some(([127, 0, 0, 1], 9465).into()) },
        quota: quota_of_the_file(),
        quota_shared: quota_shared_of_the_file(directory, url),
        log: LogSettings { log_format: None },
    }
}

/// The second section has the defaults.
pub(super) fn quota_of_the_file() -> Vec<QuotaSettings> {
    let of_one_project = QuotaSettings {
        project: Some("example.com:p-1".to_owned()),
        limit: 1000,
        period: Duration::from_secs(100),
        burst: Some(20),
        mode: QuotaMode::Shadow,
    };
    let of_all_others = QuotaSettings {
        project: None,
        limit: 600,
        period: Duration::from_secs(60),
        burst: None,
        mode: QuotaMode::Enforce,
    };
    vec![of_one_project, of_all_others]
}

/// The URL comes from `url`, because the test compares it as text.
pub(super) fn quota_shared_of_the_file(directory: &Path, url: &Settings) -> Option<StoreConfig> {
    Some(StoreConfig {
        url: url.quota_shared.as_ref()?.url.clone(),
        username: Some("countermand".to_owned()),
        password_file: Some(directory.join("valkey-password")),
        ca_certificates: Some(directory.join("ca.pem")),
        sentinel_master: Some("main".to_owned()),
        replicas: 3,
    })
}

fn limits_of_the_file() -> Limits {
    Limits {
        max_connections: 11,
        max_handshakes: 12,
        handshake_timeout: Duration::from_secs(13),
        max_concurrent_calls: 1,
        max_calls_per_caller: Some(11),
        max_request_bytes: 1024,
        max_header_list_bytes: 2048,
        max_streams_per_connection: 14,
        max_pending_resets: 15,
        max_resets_per_window: 16,
        reset_window: Duration::from_secs(17),
        keepalive_interval: Duration::from_secs(18),
        keepalive_timeout: Duration::from_secs(19),
        max_connection_age: None,
        max_connection_age_grace: Duration::from_secs(20),
    }
}

#[test]
fn a_file_sets_everything_that_it_names() {
    let directory = directory();
    let directory = directory.as_path();
    let config = load(directory, "--config @/full.toml", &[]).unwrap();
    assert_eq!(config, full(directory, &config));
    assert_eq!(config.upstream.url.as_str(), "https://file.example/prefix");
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "http://localhost:5");
    let store = config.quota_shared.unwrap();
    assert_eq!(store.url.to_string(), "rediss://valkey-0:26379,valkey-1:26379/2");
}
