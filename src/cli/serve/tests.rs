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
        Admin, BaseUrl, Config, Credential, Environment, Faults, ListenAddress, LogFormat, Polling, Server,
        Upstream,
    },
    credentials::{Definition, Origin, Pattern},
};

/// Writes the files that the cases name. `@` in a case stands for this directory.
fn room() -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    for key in ["key.json", "other.json"] {
        fs::write(room.path().join(key), KEY_FILE.as_str()).unwrap();
    }
    let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
    fs::write(room.path().join("ca.pem"), ca.cert.pem()).unwrap();
    fs::write(room.path().join("other.pem"), ca.cert.pem()).unwrap();
    fs::write(room.path().join("full.toml"), FULL).unwrap();
    fs::write(room.path().join("empty.toml"), "").unwrap();
    room
}

const FULL: &str = r#"
[server]
listen = ["127.0.0.1:1", "unix:c.sock"]
drain_timeout = "1s"
max_concurrent_calls = 1
[admin]
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
enterprises = ["LC01*", "LC02ab"]
[[credentials]]
name = "others"
file = "other.json"
[polling]
min_interval = "1ms"
max_interval = "1h"
max_wait = "30s"
cache_entries = 0
cache_max_age = "1m"
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

/// A credential for all enterprises.
fn credential(name: &str, file: PathBuf) -> Credential {
    let definition = Definition { origin: Origin::File(file), impersonate: None };
    Credential { name: name.to_owned(), definition, enterprises: vec![Pattern::all()] }
}

/// What `--credentials @/key.json` alone comes to.
fn defaults(room: &Path) -> Config {
    Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:50051")],
            drain_timeout: Duration::from_secs(25),
            max_concurrent_calls: 4096,
        },
        admin: Admin { listen: Some("127.0.0.1:9464".parse().unwrap()) },
        upstream: Upstream {
            url: Default::default(),
            ca_certificates: None,
            iam_credentials_url: BaseUrl::of_iam_credentials(),
            timeout: Duration::from_secs(30),
        },
        credentials: vec![credential("default", room.join("key.json"))],
        polling: polling(1, 20, 600, 2000, 3600),
        log_format: LogFormat::Text,
    }
}

/// In seconds, but for the entries.
fn polling(min: u64, max: u64, wait: u64, cache_entries: usize, age: u64) -> Polling {
    let [min_interval, max_interval, max_wait, cache_max_age] =
        [min, max, wait, age].map(Duration::from_secs);
    Polling { min_interval, max_interval, max_wait, cache_entries, cache_max_age }
}

/// What `--config @/full.toml` alone comes to, but for the URLs, which are compared as text.
fn full(room: &Path, url: &Config) -> Config {
    let mut emea = credential("emea", room.join("key.json"));
    emea.definition.impersonate = Some("proxy@p.iam.gserviceaccount.com".to_owned());
    emea.enterprises = ["LC01*", "LC02ab"].map(|text| Pattern::parse(text).unwrap()).into();
    Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:1"), ListenAddress::Unix(room.join("c.sock"))],
            drain_timeout: Duration::from_secs(1),
            max_concurrent_calls: 1,
        },
        admin: Admin { listen: None },
        upstream: Upstream {
            url: url.upstream.url.clone(),
            ca_certificates: Some(room.join("ca.pem")),
            iam_credentials_url: url.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(90),
        },
        credentials: vec![emea, credential("others", room.join("other.json"))],
        polling: Polling { min_interval: Duration::from_millis(1), ..polling(0, 3600, 30, 0, 60) },
        log_format: LogFormat::Text,
    }
}

const ALL_VARIABLES: [(&str, &str); 16] = [
    ("COUNTERMAND_CONFIG", "@/full.toml"),
    ("COUNTERMAND_LISTEN", "127.0.0.1:2, [::1]:2"),
    ("COUNTERMAND_ADMIN_LISTEN", "127.0.0.1:3"),
    ("COUNTERMAND_CREDENTIALS", "@/other.json"),
    ("COUNTERMAND_UPSTREAM_URL", "http://localhost:4"),
    ("COUNTERMAND_UPSTREAM_CA", "@/other.pem"),
    ("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", "http://localhost:6"),
    ("COUNTERMAND_UPSTREAM_TIMEOUT", "2s"),
    ("COUNTERMAND_DRAIN_TIMEOUT", "3s"),
    ("COUNTERMAND_MAX_CONCURRENT_CALLS", "2"),
    ("COUNTERMAND_POLLING_MIN_INTERVAL", "2s"),
    ("COUNTERMAND_POLLING_MAX_INTERVAL", "3s"),
    ("COUNTERMAND_POLLING_MAX_WAIT", "4s"),
    ("COUNTERMAND_POLLING_CACHE_ENTRIES", "5"),
    ("COUNTERMAND_POLLING_CACHE_MAX_AGE", "6s"),
    ("COUNTERMAND_LOG_FORMAT", "json"),
];

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let room = room();
    let room = room.path();
    let config = load(room, "--credentials @/key.json", &[]).unwrap();
    assert_eq!(config, defaults(room));
    assert_eq!(config.upstream.url.as_str(), "https://androidmanagement.googleapis.com");
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "https://iamcredentials.googleapis.com");
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
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "http://localhost:5");
}

#[test]
fn a_variable_wins_over_the_file() {
    let room = room();
    let room = room.path();
    let config = load(room, "", &ALL_VARIABLES).unwrap();
    let wanted = Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:2"), tcp("[::1]:2")],
            drain_timeout: Duration::from_secs(3),
            max_concurrent_calls: 2,
        },
        admin: Admin { listen: Some("127.0.0.1:3".parse().unwrap()) },
        upstream: Upstream {
            url: config.upstream.url.clone(),
            ca_certificates: Some(room.join("other.pem")),
            iam_credentials_url: config.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(2),
        },
        credentials: vec![credential("default", room.join("other.json"))],
        polling: polling(2, 3, 4, 5, 6),
        log_format: LogFormat::Json,
    };
    assert_eq!(config, wanted);
    assert_eq!(config.upstream.url.as_str(), "http://localhost:4");
    assert_eq!(config.upstream.iam_credentials_url.as_str(), "http://localhost:6");
}

#[test]
fn a_flag_wins_over_the_variable() {
    let room = room();
    let room = room.path();
    let line = "--config @/empty.toml --listen 127.0.0.1:5 --listen unix:/tmp/c.sock --admin-listen off \
                --credentials @/key.json --upstream-url https://flag.example --upstream-ca @/ca.pem \
                --log-format text";
    let config = load(room, line, &ALL_VARIABLES).unwrap();
    let wanted = Config {
        server: Server {
            listen: vec![tcp("127.0.0.1:5"), ListenAddress::Unix(PathBuf::from("/tmp/c.sock"))],
            drain_timeout: Duration::from_secs(3),
            max_concurrent_calls: 2,
        },
        admin: Admin { listen: None },
        upstream: Upstream {
            url: config.upstream.url.clone(),
            ca_certificates: Some(room.join("ca.pem")),
            iam_credentials_url: config.upstream.iam_credentials_url.clone(),
            timeout: Duration::from_secs(2),
        },
        credentials: vec![credential("default", room.join("key.json"))],
        polling: polling(2, 3, 4, 5, 6),
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
    let cases: [Case; 21] = [
        ("--listen [::1]:1", &[], |c| c.server.listen = vec![tcp("[::1]:1")]),
        ("", &[("COUNTERMAND_LISTEN", "[::1]:1")], |c| c.server.listen = vec![tcp("[::1]:1")]),
        ("--admin-listen off", &[], |c| c.admin.listen = None),
        ("", &[("COUNTERMAND_ADMIN_LISTEN", "off")], |c| c.admin.listen = None),
        ("--upstream-ca @/ca.pem", &[], ca),
        ("", &[("COUNTERMAND_UPSTREAM_CA", "@/ca.pem")], ca),
        ("--log-format json", &[], |c| c.log_format = LogFormat::Json),
        ("", &[("COUNTERMAND_LOG_FORMAT", "json")], |c| c.log_format = LogFormat::Json),
        ("", &[("COUNTERMAND_DRAIN_TIMEOUT", "1s")], |c| c.server.drain_timeout = Duration::from_secs(1)),
        ("", &[("COUNTERMAND_UPSTREAM_TIMEOUT", "1s")], |c| c.upstream.timeout = Duration::from_secs(1)),
        ("", &[("COUNTERMAND_MAX_CONCURRENT_CALLS", "7")], |c| c.server.max_concurrent_calls = 7),
        ("", &[("COUNTERMAND_POLLING_MIN_INTERVAL", "20s")], |c| {
            c.polling = polling(20, 20, 600, 2000, 3600)
        }),
        ("", &[("COUNTERMAND_POLLING_MAX_INTERVAL", "1s")], |c| c.polling = polling(1, 1, 600, 2000, 3600)),
        ("", &[("COUNTERMAND_POLLING_MAX_WAIT", "1s")], |c| c.polling = polling(1, 20, 1, 2000, 3600)),
        ("", &[("COUNTERMAND_POLLING_CACHE_ENTRIES", "0")], |c| c.polling = polling(1, 20, 600, 0, 3600)),
        ("", &[("COUNTERMAND_POLLING_CACHE_MAX_AGE", "1s")], |c| c.polling = polling(1, 20, 600, 2000, 1)),
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

fn ca(config: &mut Config) {
    let Origin::File(file) = &config.credentials[0].definition.origin else { panic!("{config:?}") };
    config.upstream.ca_certificates = Some(file.with_file_name("ca.pem"));
}

#[test]
fn a_fault_names_the_source_that_won() {
    let room = room();
    let room = room.path();
    for (line, variable, key) in [
        ("--listen nowhere", ("COUNTERMAND_LISTEN", "127.0.0.1:1"), "--listen"),
        ("", ("COUNTERMAND_LISTEN", "127.0.0.1:1,"), "COUNTERMAND_LISTEN"),
        ("", ("COUNTERMAND_LISTEN", ""), "COUNTERMAND_LISTEN"),
        ("--listen 192.0.2.1:1", ("COUNTERMAND_ALLOW_UNAUTHENTICATED", "false"), "--listen"),
        ("", ("COUNTERMAND_ALLOW_UNAUTHENTICATED", "yes"), "COUNTERMAND_ALLOW_UNAUTHENTICATED"),
        ("--admin-listen 0.0.0.0:1", ("COUNTERMAND_ADMIN_LISTEN", "off"), "--admin-listen"),
        ("--upstream-url x", ("COUNTERMAND_UPSTREAM_URL", "https://h"), "--upstream-url"),
        ("--upstream-ca @/key.json", ("COUNTERMAND_UPSTREAM_CA", "@/ca.pem"), "--upstream-ca"),
        (
            "",
            ("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", "http://h"),
            "COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL",
        ),
        ("", ("COUNTERMAND_UPSTREAM_TIMEOUT", "0s"), "COUNTERMAND_UPSTREAM_TIMEOUT"),
        ("", ("COUNTERMAND_MAX_CONCURRENT_CALLS", "many"), "COUNTERMAND_MAX_CONCURRENT_CALLS"),
        ("", ("COUNTERMAND_POLLING_MIN_INTERVAL", "2h"), "COUNTERMAND_POLLING_MIN_INTERVAL"),
        ("", ("COUNTERMAND_POLLING_MAX_WAIT", "x"), "COUNTERMAND_POLLING_MAX_WAIT"),
        ("", ("COUNTERMAND_POLLING_CACHE_ENTRIES", "x"), "COUNTERMAND_POLLING_CACHE_ENTRIES"),
        ("", ("COUNTERMAND_CREDENTIALS", "@/none.json"), "COUNTERMAND_CREDENTIALS"),
        ("--credentials @/none.json", ("COUNTERMAND_CREDENTIALS", "@/key.json"), "--credentials"),
        ("--policy p", ("COUNTERMAND_POLICY", "q"), "--policy"),
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
