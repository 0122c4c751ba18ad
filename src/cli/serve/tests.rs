//! From a command line, an environment and a file to the whole configuration.

use crate::config::tests::KEY_FILE;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    config::{
        Admin, Audit, Callers, Config, Credential, Destination, Environment, Faults, Jwks, Jwt, Limits,
        ListenAddress, LogFormat, OnFailure, Owner, Polling, Server, UnixSocket, Upstream,
    },
    server::identity::{
        issuer::{Key, key_set},
        jwks::Algorithm,
        names,
    },
    server::tls::Files,
};

/// Writes the files that the cases name. `@` in a case stands for this directory.
fn room() -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    for key in ["key.json", "other.json"] {
        fs::write(room.path().join(key), KEY_FILE.as_str()).unwrap();
    }
    let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
    fs::write(room.path().join("ca.pem"), ca.cert.pem()).unwrap();
    fs::write(room.path().join("ca.key"), ca.signing_key.serialize_pem()).unwrap();
    fs::write(room.path().join("other.pem"), ca.cert.pem()).unwrap();
    for policy in ["policy.cedar", "other.cedar"] {
        fs::write(room.path().join(policy), "permit (principal, action, resource);").unwrap();
    }
    fs::write(room.path().join("jwks.json"), key_set([Key::ec().jwk(None)])).unwrap();
    fs::write(room.path().join("full.toml"), FULL).unwrap();
    fs::write(room.path().join("empty.toml"), "").unwrap();
    room
}

const FULL: &str = r#"
[server]
listen = ["127.0.0.1:1", "unix:c.sock"]
drain_timeout = "1s"
unix_socket_mode = "0660"
unix_socket_owner = "1:2"
max_connections = 11
max_handshakes = 12
handshake_timeout = "13s"
max_concurrent_calls = 1
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
listen = "off"
[upstream]
url = "https://file.example/prefix/"
ca_certificates = "ca.pem"
timeout = "1m 30s"
[[credentials]]
name = "emea"
file = "key.json"
[policy]
file = "policy.cedar"
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
[audit]
file = "audit.jsonl"
on_failure = "continue"
"#;

fn load(room: &Path, line: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    let place = |text: &str| text.replace('@', room.to_str().unwrap());
    let argv = format!("countermand serve {}", place(line));
    let Command::Serve(args) = Cli::try_parse_from(argv.split_whitespace()).unwrap().command else {
        panic!("{line} is no serve");
    };
    let variables: Environment =
        variables.iter().map(|(name, value)| (name.into(), place(value).into())).collect();
    Config::load(args.into(), variables)
}

fn tcp(text: &str) -> ListenAddress {
    ListenAddress::Tcp(text.parse().unwrap())
}

/// What `--credentials @/key.json` alone comes to.
fn defaults(room: &Path) -> Config {
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
            timeout: Duration::from_secs(30),
        },
        credential: Credential { name: "default".to_owned(), file: room.join("key.json") },
        policy: None,
        callers: Callers::default(),
        polling: polling(1, 20, 600, 2000, 3600),
        audit: Audit { destination: Destination::Stdout, on_failure: OnFailure::Fail },
        log_format: LogFormat::Text,
    }
}

/// In seconds, but for the entries.
fn polling(min: u64, max: u64, wait: u64, cache_entries: usize, age: u64) -> Polling {
    let [min_interval, max_interval, max_wait, cache_max_age] =
        [min, max, wait, age].map(Duration::from_secs);
    Polling { min_interval, max_interval, max_wait, cache_entries, cache_max_age }
}

/// What `--config @/full.toml` alone comes to, but for the URL, which is compared as text.
fn full(room: &Path, url: &Config) -> Config {
    Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:1"), ListenAddress::Unix(room.join("c.sock"))],
            tls: Some(tls(room)),
            unix_socket: UnixSocket { mode: 0o660, owner: Owner { user: Some(1), group: Some(2) } },
            drain_timeout: Duration::from_secs(1),
            limits: limits_of_the_file(),
        },
        admin: Admin { listen: None },
        upstream: Upstream {
            url: url.upstream.url.clone(),
            ca_certificates: Some(room.join("ca.pem")),
            timeout: Duration::from_secs(90),
        },
        credential: Credential { name: "emea".to_owned(), file: room.join("key.json") },
        policy: Some(room.join("policy.cedar")),
        callers: Callers {
            forwarded_client_cert: true,
            linkerd_client_id: true,
            mesh_proxies: identities(["spiffe://corp.example/proxy", "dns:proxy.example"]),
            jwt: Some(Jwt {
                issuer: "https://file.example".to_owned(),
                audiences: vec!["countermand".to_owned()],
                algorithms: algorithms("ES256"),
                jwks: Jwks::File(room.join("jwks.json")),
            }),
        },
        polling: Polling { min_interval: Duration::from_millis(1), ..polling(0, 3600, 30, 0, 60) },
        audit: Audit {
            destination: Destination::File(room.join("audit.jsonl")),
            on_failure: OnFailure::Continue,
        },
        log_format: LogFormat::Text,
    }
}

fn identities<const N: usize>(texts: [&str; N]) -> Vec<crate::caller::Identity> {
    texts.map(|text| names::identity(text).unwrap()).into()
}

fn algorithms(names: &str) -> Vec<Algorithm> {
    names.split(' ').map(|name| name.parse().unwrap()).collect()
}

/// What `ALL_VARIABLES` say of callers.
fn callers_of_variables(room: &Path) -> Callers {
    Callers {
        forwarded_client_cert: false,
        linkerd_client_id: false,
        mesh_proxies: identities(["dns:a.example", "dns:b.example"]),
        jwt: Some(Jwt {
            issuer: "https://variable.example".to_owned(),
            audiences: vec!["a".to_owned(), "b".to_owned()],
            algorithms: algorithms("RS256 EdDSA"),
            jwks: Jwks::Url {
                url: "https://variable.example/jwks?a=b".parse().unwrap(),
                ca_certificates: Some(room.join("other.pem")),
                token_file: Some(room.join("other.json")),
            },
        }),
    }
}

fn tls(room: &Path) -> Files {
    let (certificate, private_key) = (room.join("ca.pem"), room.join("ca.key"));
    Files { certificate, private_key, client_ca: Some(room.join("ca.pem")) }
}

fn limits_of_the_file() -> Limits {
    Limits {
        max_connections: 11,
        max_handshakes: 12,
        handshake_timeout: Duration::from_secs(13),
        max_concurrent_calls: 1,
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

fn limits_of_the_variables() -> Limits {
    Limits {
        max_connections: 21,
        max_handshakes: 22,
        handshake_timeout: Duration::from_secs(23),
        max_concurrent_calls: 2,
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

const ALL_VARIABLES: [(&str, &str); 42] = [
    ("COUNTERMAND_CONFIG", "@/full.toml"),
    ("COUNTERMAND_LISTEN", "127.0.0.1:2, [::1]:2"),
    ("COUNTERMAND_ADMIN_LISTEN", "127.0.0.1:3"),
    ("COUNTERMAND_CREDENTIALS", "@/other.json"),
    ("COUNTERMAND_UPSTREAM_URL", "http://localhost:4"),
    ("COUNTERMAND_UPSTREAM_CA", "@/other.pem"),
    ("COUNTERMAND_UPSTREAM_TIMEOUT", "2s"),
    ("COUNTERMAND_DRAIN_TIMEOUT", "3s"),
    ("COUNTERMAND_UNIX_SOCKET_MODE", "606"),
    ("COUNTERMAND_UNIX_SOCKET_OWNER", ":3"),
    ("COUNTERMAND_MAX_CONNECTIONS", "21"),
    ("COUNTERMAND_MAX_HANDSHAKES", "22"),
    ("COUNTERMAND_HANDSHAKE_TIMEOUT", "23s"),
    ("COUNTERMAND_MAX_CONCURRENT_CALLS", "2"),
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
    ("COUNTERMAND_POLLING_MIN_INTERVAL", "2s"),
    ("COUNTERMAND_POLLING_MAX_INTERVAL", "3s"),
    ("COUNTERMAND_POLLING_MAX_WAIT", "4s"),
    ("COUNTERMAND_POLLING_CACHE_ENTRIES", "5"),
    ("COUNTERMAND_POLLING_CACHE_MAX_AGE", "6s"),
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
    ("COUNTERMAND_LOG_FORMAT", "json"),
];

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let room = room();
    let room = room.path();
    let config = load(room, "--credentials @/key.json", &[]).unwrap();
    assert_eq!(config, defaults(room));
    assert_eq!(config.upstream.url.as_str(), "https://androidmanagement.googleapis.com");
    // An empty file says no more than none, and the last resort is the variable of Google's.
    let google = [("GOOGLE_APPLICATION_CREDENTIALS", "@/key.json")];
    assert_eq!(load(room, "--config @/empty.toml", &google).unwrap(), defaults(room));
}

#[test]
fn a_file_sets_everything_that_it_names() {
    let room = room();
    let room = room.path();
    let config = load(room, "--config @/full.toml", &[]).unwrap();
    assert_eq!(config, full(room, &config));
    assert_eq!(config.upstream.url.as_str(), "https://file.example/prefix");
}

#[test]
fn a_variable_wins_over_the_file() {
    let room = room();
    let room = room.path();
    let config = load(room, "", &ALL_VARIABLES).unwrap();
    let wanted = Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:2"), tcp("[::1]:2")],
            tls: Some(tls(room)),
            unix_socket: UnixSocket { mode: 0o606, owner: Owner { user: None, group: Some(3) } },
            drain_timeout: Duration::from_secs(3),
            limits: limits_of_the_variables(),
        },
        admin: Admin { listen: Some("127.0.0.1:3".parse().unwrap()) },
        upstream: Upstream {
            url: config.upstream.url.clone(),
            ca_certificates: Some(room.join("other.pem")),
            timeout: Duration::from_secs(2),
        },
        credential: Credential { name: "default".to_owned(), file: room.join("other.json") },
        policy: Some(room.join("other.cedar")),
        callers: callers_of_variables(room),
        polling: polling(2, 3, 4, 5, 6),
        audit: Audit {
            destination: Destination::File(room.join("other.jsonl")),
            on_failure: OnFailure::Fail,
        },
        log_format: LogFormat::Json,
    };
    assert_eq!(config, wanted);
    assert_eq!(config.upstream.url.as_str(), "http://localhost:4");
}

#[test]
fn a_flag_wins_over_the_variable() {
    let room = room();
    let room = room.path();
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
            timeout: Duration::from_secs(2),
        },
        credential: Credential { name: "default".to_owned(), file: room.join("key.json") },
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

#[test]
fn each_setting_alone_changes_nothing_else() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], fn(&mut Config));
    let room = room();
    let room = room.path();
    let cases: [Case; 26] = [
        ("--listen [::1]:1", &[], |c| c.server.listen = vec![tcp("[::1]:1")]),
        ("", &[("COUNTERMAND_LISTEN", "[::1]:1")], |c| c.server.listen = vec![tcp("[::1]:1")]),
        ("--admin-listen off", &[], |c| c.admin.listen = None),
        ("", &[("COUNTERMAND_ADMIN_LISTEN", "off")], |c| c.admin.listen = None),
        ("--upstream-ca @/ca.pem", &[], ca),
        ("", &[("COUNTERMAND_UPSTREAM_CA", "@/ca.pem")], ca),
        ("--policy @/policy.cedar", &[], policy),
        ("", &[("COUNTERMAND_POLICY", "@/policy.cedar")], policy),
        ("--log-format json", &[], |c| c.log_format = LogFormat::Json),
        ("", &[("COUNTERMAND_LOG_FORMAT", "json")], |c| c.log_format = LogFormat::Json),
        ("", &[("COUNTERMAND_DRAIN_TIMEOUT", "1s")], |c| c.server.drain_timeout = Duration::from_secs(1)),
        ("", &[("COUNTERMAND_UPSTREAM_TIMEOUT", "1s")], |c| c.upstream.timeout = Duration::from_secs(1)),
        ("", &[("COUNTERMAND_MAX_CONCURRENT_CALLS", "7")], |c| c.server.limits.max_concurrent_calls = 7),
        ("", &[("COUNTERMAND_POLLING_MIN_INTERVAL", "20s")], |c| {
            c.polling = polling(20, 20, 600, 2000, 3600)
        }),
        ("", &[("COUNTERMAND_POLLING_MAX_INTERVAL", "1s")], |c| c.polling = polling(1, 1, 600, 2000, 3600)),
        ("", &[("COUNTERMAND_POLLING_MAX_WAIT", "1s")], |c| c.polling = polling(1, 20, 1, 2000, 3600)),
        ("", &[("COUNTERMAND_POLLING_CACHE_ENTRIES", "0")], |c| c.polling = polling(1, 20, 600, 0, 3600)),
        ("", &[("COUNTERMAND_POLLING_CACHE_MAX_AGE", "1s")], |c| c.polling = polling(1, 20, 600, 2000, 1)),
        ("", &[("COUNTERMAND_AUDIT_FILE", "@/a")], |c| {
            let directory = c.credential.file.parent().unwrap();
            c.audit.destination = Destination::File(directory.join("a"));
        }),
        ("", &[("COUNTERMAND_AUDIT_FILE", "stdout")], |_| {}),
        ("", &[("COUNTERMAND_AUDIT_ON_FAILURE", "continue")], |c| c.audit.on_failure = OnFailure::Continue),
        ("--allow-unauthenticated", &[], |_| {}),
        ("", &[("COUNTERMAND_ALLOW_UNAUTHENTICATED", "false")], |_| {}),
        ("--listen 0.0.0.0:1 --allow-unauthenticated", &[], open),
        ("--listen 0.0.0.0:1", &[("COUNTERMAND_ALLOW_UNAUTHENTICATED", "1")], open),
        ("--allow-unauthenticated", &[("COUNTERMAND_LISTEN", "0.0.0.0:1")], open),
    ];
    for (flags, variables, change) in cases {
        let mut wanted = defaults(room);
        change(&mut wanted);
        let found = load(room, &format!("--credentials @/key.json {flags}"), variables);
        assert_eq!(found.unwrap(), wanted, "{flags} {variables:?}");
    }
}

fn open(config: &mut Config) {
    config.server.listen = vec![tcp("0.0.0.0:1")];
}

fn policy(config: &mut Config) {
    let directory = config.credential.file.parent().unwrap();
    config.policy = Some(directory.join("policy.cedar"));
}

fn ca(config: &mut Config) {
    let directory = config.credential.file.parent().unwrap();
    config.upstream.ca_certificates = Some(directory.join("ca.pem"));
}

#[test]
fn a_fault_names_the_source_that_won() {
    let room = room();
    let room = room.path();
    for (line, variable, key) in [
        ("--listen nowhere", ("COUNTERMAND_LISTEN", "127.0.0.1:1"), "--listen"),
        ("", ("COUNTERMAND_LISTEN", "127.0.0.1:1,"), "COUNTERMAND_LISTEN"),
        ("", ("COUNTERMAND_LISTEN", ""), "COUNTERMAND_LISTEN"),
        ("--admin-listen 192.0.2.1:1", ("COUNTERMAND_ALLOW_UNAUTHENTICATED", "false"), "--admin-listen"),
        ("", ("COUNTERMAND_ALLOW_UNAUTHENTICATED", "yes"), "COUNTERMAND_ALLOW_UNAUTHENTICATED"),
        ("--admin-listen 0.0.0.0:1", ("COUNTERMAND_ADMIN_LISTEN", "off"), "--admin-listen"),
        ("--upstream-url x", ("COUNTERMAND_UPSTREAM_URL", "https://h"), "--upstream-url"),
        ("--upstream-ca @/key.json", ("COUNTERMAND_UPSTREAM_CA", "@/ca.pem"), "--upstream-ca"),
        ("", ("COUNTERMAND_UPSTREAM_TIMEOUT", "0s"), "COUNTERMAND_UPSTREAM_TIMEOUT"),
        ("", ("COUNTERMAND_MAX_CONCURRENT_CALLS", "many"), "COUNTERMAND_MAX_CONCURRENT_CALLS"),
        ("", ("COUNTERMAND_POLLING_MIN_INTERVAL", "2h"), "COUNTERMAND_POLLING_MIN_INTERVAL"),
        ("", ("COUNTERMAND_POLLING_MAX_WAIT", "x"), "COUNTERMAND_POLLING_MAX_WAIT"),
        ("", ("COUNTERMAND_POLLING_CACHE_ENTRIES", "x"), "COUNTERMAND_POLLING_CACHE_ENTRIES"),
        ("", ("COUNTERMAND_AUDIT_FILE", "@/none/a"), "COUNTERMAND_AUDIT_FILE"),
        ("", ("COUNTERMAND_AUDIT_ON_FAILURE", ""), "COUNTERMAND_AUDIT_ON_FAILURE"),
        ("", ("COUNTERMAND_CREDENTIALS", "@/none.json"), "COUNTERMAND_CREDENTIALS"),
        ("--credentials @/none.json", ("COUNTERMAND_CREDENTIALS", "@/key.json"), "--credentials"),
        ("--policy @/none.cedar", ("COUNTERMAND_POLICY", "@/policy.cedar"), "--policy"),
        ("", ("COUNTERMAND_POLICY", "q"), "COUNTERMAND_POLICY"),
    ] {
        let line = format!("--config @/full.toml {line}");
        let faults = load(room, &line, &[variable]).expect_err(&line);
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, [key], "{line} {variable:?}: {faults}");
    }
}

#[test]
fn the_parser_knows_its_own_arguments() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
