//! What holds when nothing else is said.

use std::{path::Path, time::Duration};

use super::{credential, load, polling, room, tcp};
use crate::config::{
    Admin, Audit, BaseUrl, Callers, Config, Destination, Limits, LogFormat, OnFailure, Owner, Server,
    UnixSocket, Upstream,
};

/// What `--credentials @/key.json` alone comes to.
pub(super) fn defaults(room: &Path) -> Config {
    Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:50051")],
            tls: None,
            unix_socket: UnixSocket { mode: 0o600, owner: Owner { user: None, group: None } },
            drain_timeout: Duration::from_secs(25),
            limits: Limits {
                max_connections: 10_000,
                max_handshakes: 256,
                handshake_timeout: Duration::from_secs(10),
                max_concurrent_calls: 4096,
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
        },
        admin: Admin { listen: Some("127.0.0.1:9464".parse().unwrap()) },
        upstream: Upstream {
            url: Default::default(),
            ca_certificates: None,
            iam_credentials_url: BaseUrl::of_iam_credentials(),
            timeout: Duration::from_secs(30),
        },
        credentials: vec![credential("default", room.join("key.json"))],
        policy: None,
        callers: Callers::default(),
        polling: polling(1, 20, 240, 2000, 3600),
        audit: Audit { destination: Destination::Stdout, on_failure: OnFailure::Fail },
        log_format: LogFormat::Text,
        unknown_variables: Vec::new(),
    }
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let room = room();
    let room = room.directory();
    let config = load(room, "--credentials @/key.json", &[]).unwrap();
    assert_eq!(config, defaults(room));
    assert_eq!(config.upstream.url.as_str(), "https://androidmanagement.googleapis.com");
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "https://iamcredentials.googleapis.com");
    // An empty file says no more than none, and the last resort is the variable of Google's.
    let google = [("GOOGLE_APPLICATION_CREDENTIALS", "@/key.json")];
    assert_eq!(load(room, "--config @/empty.toml", &google).unwrap(), defaults(room));
}
