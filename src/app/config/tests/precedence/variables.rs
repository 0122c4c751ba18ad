//! All variables, with a complete file.

use std::{path::Path, time::Duration};

use super::{
    algorithms, credential, directory,
    file::{quota_of_the_file, quota_shared_of_the_file},
    identities, load, polling, tcp, tls,
};
use crate::{
    admin::settings::Admin,
    amapi::settings::Upstream,
    app::config::Settings,
    audit::settings::{Audit, Destination, OnFailure},
    operations::guard::GuardLimit,
    policy::settings::{PolicyMode, PolicySettings},
    server::settings::{Callers, Jwks, Jwt, Limits, Owner, Server},
    telemetry::settings::{LogFormat, LogSettings, Telemetry},
};

pub(super) const ALL_VARIABLES: [(&str, &str); 53] = [
    ("COUNTERMAND_CONFIG", "@/full.toml"),
    ("COUNTERMAND_LISTEN", "127.0.0.1:2, [::1]:2"),
    ("COUNTERMAND_ADMIN_LISTEN", "127.0.0.1:3"),
    ("COUNTERMAND_ADMIN_QUIT", "true"),
    ("COUNTERMAND_CREDENTIALS", "@/other.json"),
    ("COUNTERMAND_UPSTREAM_URL", "http://localhost:4"),
    ("COUNTERMAND_UPSTREAM_CA", "@/other.pem"),
    ("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", "http://localhost:6"),
    ("COUNTERMAND_UPSTREAM_TIMEOUT", "2s"),
    ("COUNTERMAND_DRAIN_TIMEOUT", "3s"),
    ("COUNTERMAND_DRAIN_DELAY", "4s"),
    ("COUNTERMAND_SERVER_TLS_CERTIFICATE", "@/other.pem"),
    ("COUNTERMAND_SERVER_TLS_PRIVATE_KEY", "@/other.key"),
    ("COUNTERMAND_SERVER_TLS_CLIENT_CA", "@/other.pem"),
    ("COUNTERMAND_UNIX_SOCKET_MODE", "606"),
    ("COUNTERMAND_UNIX_SOCKET_OWNER", ":3"),
    ("COUNTERMAND_MAX_CONNECTIONS", "21"),
    ("COUNTERMAND_MAX_HANDSHAKES", "22"),
    ("COUNTERMAND_HANDSHAKE_TIMEOUT", "23s"),
    ("COUNTERMAND_MAX_CONCURRENT_CALLS", "2"),
    ("COUNTERMAND_MAX_CALLS_PER_CALLER", "12"),
    ("COUNTERMAND_MAX_REQUEST_BYTES", "4096"),
    ("COUNTERMAND_MAX_HEADER_LIST_BYTES", "8192"),
    ("COUNTERMAND_MAX_STREAMS_PER_CONNECTION", "24"),
    ("COUNTERMAND_MAX_PENDING_RESETS", "25"),
    ("COUNTERMAND_MAX_RESETS_PER_WINDOW", "26"),
    ("COUNTERMAND_RESET_WINDOW", "27s"),
    ("COUNTERMAND_KEEPALIVE_INTERVAL", "28s"),
    ("COUNTERMAND_KEEPALIVE_TIMEOUT", "29s"),
    ("COUNTERMAND_MAX_CONNECTION_AGE", "30s"),
    ("COUNTERMAND_MAX_CONNECTION_AGE_GRACE", "31s"),
    ("COUNTERMAND_POLICY", "@/other.cedar"),
    ("COUNTERMAND_POLICY_MODE", "enforce"),
    ("COUNTERMAND_POLLING_MIN_INTERVAL", "2s"),
    ("COUNTERMAND_POLLING_MAX_INTERVAL", "3s"),
    ("COUNTERMAND_POLLING_MAX_WAIT", "4s"),
    ("COUNTERMAND_POLLING_CACHE_ENTRIES", "5"),
    ("COUNTERMAND_POLLING_CACHE_MAX_AGE", "6s"),
    ("COUNTERMAND_GUARD_PENDING_WIPES", "0"),
    ("COUNTERMAND_GUARD_PERIOD", "7s"),
    ("COUNTERMAND_AUDIT_FILE", "@/other.jsonl"),
    ("COUNTERMAND_AUDIT_ON_FAILURE", "fail"),
    ("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "false"),
    ("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "0"),
    ("COUNTERMAND_CALLERS_MESH_PROXIES", "dns:a.example, dns:b.example"),
    ("COUNTERMAND_CALLERS_JWT_ISSUER", "https://variable.example"),
    ("COUNTERMAND_CALLERS_JWT_AUDIENCE", "a, b"),
    ("COUNTERMAND_CALLERS_JWT_ALGORITHMS", "RS256, EdDSA"),
    ("COUNTERMAND_CALLERS_JWT_JWKS", "https://variable.example/jwks?a=b"),
    ("COUNTERMAND_CALLERS_JWT_JWKS_CA_CERTIFICATES", "@/other.pem"),
    ("COUNTERMAND_CALLERS_JWT_JWKS_TOKEN_FILE", "@/other.json"),
    ("COUNTERMAND_TELEMETRY_LISTEN", "0.0.0.0:9466"),
    ("COUNTERMAND_LOG_FORMAT", "json"),
];

/// The settings of `ALL_VARIABLES` with `@/full.toml`. The URLs come from `urls`, because tests compare them as text.
pub(super) fn of_variables(directory: &Path, urls: &Settings) -> Settings {
    Settings {
        server: Server {
            listen: vec![tcp("127.0.0.1:2"), tcp("[::1]:2")],
            drain_timeout: Duration::from_secs(3),
            drain_delay: Duration::from_secs(4),
            unix_socket_mode: 0o606,
            unix_socket_owner: Some(Owner { user: None, group: Some(3) }),
        },
        limits: limits_of_the_variables(),
        tls: Some(tls(directory, "other")),
        admin: Admin { listen: Some("127.0.0.1:3".parse().unwrap()), quit: true },
        upstream: Upstream {
            url: urls.upstream.url.clone(),
            ca_certificates: Some(directory.join("other.pem")),
            iam_credentials_url: urls.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(2),
        },
        credentials: vec![credential("default", directory.join("other.json"))],
        policy: PolicySettings { file: Some(directory.join("other.cedar")), mode: PolicyMode::Enforce },
        callers: Callers {
            forwarded_client_cert: false,
            linkerd_client_id: false,
            mesh_proxies: Some(identities(["dns:a.example", "dns:b.example"])),
        },
        jwt: Some(jwt_of_variables(directory)),
        polling: polling(2, 3, 4, 5, 6),
        guard: Some(GuardLimit { pending_wipes: 0, period: Duration::from_secs(7) }),
        audit: Audit { file: Destination::File(directory.join("other.jsonl")), on_failure: OnFailure::Fail },
        telemetry: Telemetry { listen: Some(([0, 0, 0, 0], 9466).into()) },
        quota: quota_of_the_file(),
        quota_shared: quota_shared_of_the_file(directory, urls),
        log: LogSettings { log_format: Some(LogFormat::Json) },
    }
}

fn jwt_of_variables(directory: &Path) -> Jwt {
    Jwt {
        issuer: "https://variable.example".to_owned(),
        audiences: vec!["a".to_owned(), "b".to_owned()],
        algorithms: algorithms("RS256 EdDSA"),
        jwks: Jwks::Url {
            url: "https://variable.example/jwks?a=b".parse().unwrap(),
            ca_certificates: Some(directory.join("other.pem")),
            token_file: Some(directory.join("other.json")),
        },
    }
}

fn limits_of_the_variables() -> Limits {
    Limits {
        max_connections: 21,
        max_handshakes: 22,
        handshake_timeout: Duration::from_secs(23),
        max_concurrent_calls: 2,
        max_calls_per_caller: Some(12),
        max_request_bytes: 4096,
        max_header_list_bytes: 8192,
        max_streams_per_connection: 24,
        max_pending_resets: 25,
        max_resets_per_window: 26,
        reset_window: Duration::from_secs(27),
        keepalive_interval: Duration::from_secs(28),
        keepalive_timeout: Duration::from_secs(29),
        max_connection_age: Some(Duration::from_secs(30)),
        max_connection_age_grace: Duration::from_secs(31),
    }
}

#[test]
fn a_variable_wins_over_the_file() {
    let directory = directory();
    let directory = directory.as_path();
    let config = load(directory, "", &ALL_VARIABLES).unwrap();
    assert_eq!(config, of_variables(directory, &config));
    assert_eq!(config.upstream.url.as_str(), "http://localhost:4");
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "http://localhost:6");
}
