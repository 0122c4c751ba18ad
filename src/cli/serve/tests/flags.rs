//! The command line, with every flag in it.

use std::{path::PathBuf, time::Duration};

use super::{
    credential, load, polling, room, tcp,
    variables::{ALL_VARIABLES, callers_of_variables, limits_of_the_variables},
};
use crate::config::{
    Admin, Audit, Config, Destination, ListenAddress, LogFormat, OnFailure, Owner, Server, UnixSocket,
    Upstream,
};

#[test]
fn a_flag_wins_over_the_variable() {
    let room = room();
    let room = room.directory();
    let line = "--config @/empty.toml --listen 127.0.0.1:5 --listen unix:/tmp/c.sock --admin-listen off \
                --credentials @/key.json --upstream-url https://flag.example --upstream-ca @/ca.pem \
                --policy @/policy.cedar --log-format text";
    let config = load(room, line, &ALL_VARIABLES).unwrap();
    let wanted = Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:5"), ListenAddress::Unix(PathBuf::from("/tmp/c.sock"))],
            tls: None,
            unix_socket: UnixSocket { mode: 0o606, owner: Owner { user: None, group: Some(3) } },
            drain_timeout: Duration::from_secs(3),
            limits: limits_of_the_variables(),
        },
        admin: Admin { listen: None },
        upstream: Upstream {
            url: config.upstream.url.clone(),
            ca_certificates: Some(room.join("ca.pem")),
            iam_credentials_url: config.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(2),
        },
        credentials: vec![credential("default", room.join("key.json"))],
        policy: Some(room.join("policy.cedar")),
        callers: callers_of_variables(room),
        polling: polling(2, 3, 4, 5, 6),
        audit: Audit {
            destination: Destination::File(room.join("other.jsonl")),
            on_failure: OnFailure::Fail,
        },
        log_format: LogFormat::Text,
    };
    assert_eq!(config, wanted);
    assert_eq!(config.upstream.url.as_str(), "https://flag.example");
}
