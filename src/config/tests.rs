//! Which faults are found, and what they say. Which source wins is told by the table in `cli::serve`.

use std::{fs, path::PathBuf, sync::LazyLock};

use super::{Config, Environment, ListenAddress, Overrides, Owner};

mod callers;
mod pasted;

/// A directory with a credential file `key.json` and a CA `ca.pem`, whose key is `ca.key`.
pub(super) struct Room(tempfile::TempDir);

impl Room {
    pub(super) fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        fs::write(room.path("key.json"), KEY_FILE.as_str()).unwrap();
        let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        fs::write(room.path("ca.pem"), ca.cert.pem()).unwrap();
        fs::write(room.path("ca.key"), ca.signing_key.serialize_pem()).unwrap();
        room
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Loads `file` as the configuration file, under `overrides` and `variables`.
    pub(super) fn load(
        &self,
        file: &str,
        variables: &[(&str, &str)],
        overrides: Overrides,
    ) -> Result<Config, Vec<String>> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.load_in(variables, file, overrides)
    }

    /// Likewise, in an environment that is more than variables.
    pub(super) fn load_in(
        &self,
        environment: Environment,
        file: &str,
        overrides: Overrides,
    ) -> Result<Config, Vec<String>> {
        let path = self.path("countermand.toml");
        fs::write(&path, file).unwrap();
        let overrides = Overrides { config: Some(path), ..overrides };
        Config::load(overrides, environment)
            .map_err(|faults| faults.to_string().lines().map(str::to_owned).collect())
    }

    /// The faults of a file that is right but for `section`.
    pub(super) fn faults(&self, section: &str) -> Vec<String> {
        let file = format!("{section}\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n");
        self.load(&file, &[], Overrides::default()).expect_err(section)
    }
}

/// A service-account key as Google's console makes them. One for all tests: making it takes a while.
pub(crate) static KEY_FILE: LazyLock<String> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let key = serde_json::json!({
        "type": "service_account",
        "client_email": "proxy@p.iam.gserviceaccount.com",
        "private_key": key.serialize_pem(),
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    key.to_string()
});

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_file() {
    let faults = Room::new()
        .load(
            r#"listen = "127.0.0.1:1"
[server]
listen = ["0.0.0.0:50051", "nowhere", "127.0.0.1:99999"]
drain_timeout = 25
max_concurrent_calls = 0
drain-timeout = "5s"
[server.tls]
certificate = "tls.crt"
[admin]
listen = true
[upstream]
url = "http://example.com"
timeout = "0s"
ca_certificates = "none.pem"
[policy]
files = "policy.cedar"
"#,
            &[("COUNTERMAND_LISTNE", "127.0.0.1:2"), ("COUNTERMAND_LOG_FORMAT", "xml")],
            Overrides { policy: Some("p.cedar".into()), ..Overrides::default() },
        )
        .unwrap_err();
    let begins = [
        "server.tls.private_key: this is missing; name a PEM file",
        "credentials: there is no credential; give --credentials FILE, a [[credentials]] section",
        "--policy: cannot read \"p.cedar\"",
        "COUNTERMAND_LOG_FORMAT: \"xml\" is no log format; give text or json",
        "COUNTERMAND_LISTNE: there is no such variable; did you mean COUNTERMAND_LISTEN?",
        "listen (line 1): there is no such key; the keys here are policy, server, admin,",
        "server.listen (line 3): \"nowhere\" has no port; give host:port",
        "server.listen (line 3): \"127.0.0.1:99999\" has a port above 65535",
        "server.drain_timeout (line 4): this is an integer; give a string, in quotes",
        "server.max_concurrent_calls (line 5): 0 is out of range; give a number from 1 to 1000000",
        "server.drain-timeout (line 6): there is no such key; did you mean drain_timeout?",
        "server.tls.certificate (line 8): cannot read",
        "admin.listen (line 10): this is a boolean; give a string",
        "upstream.url (line 12): plain http would send the token in clear",
        "upstream.timeout (line 13): \"0s\" is too short; give a number and its unit",
        "upstream.ca_certificates (line 14): cannot read",
        "policy.files (line 16): there is no such key; did you mean file?",
    ];
    assert_eq!(faults.len(), begins.len(), "{faults:#?}");
    for (fault, begin) in faults.iter().zip(begins) {
        assert!(fault.starts_with(begin), "{fault}\nshould begin\n{begin}");
    }
}

#[test]
fn each_fault_says_what_is_wrong() {
    let room = Room::new();
    fs::write(room.path("garbage.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    fs::write(room.path("empty.pem"), "").unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(room.path("other.key"), other.serialize_pem()).unwrap();
    let long = format!("[server]\nlisten = [\"unix:/tmp/{}\"]", "x".repeat(120));
    for (section, part) in [
        ("[server]\nlisten = []", "server.listen (line 2): the list is empty"),
        ("[server]\nlisten = \"127.0.0.1:1\"", "this is a string; give a list of strings"),
        ("[server]\nlisten = [1]", "this is an integer; give a string"),
        (
            "[server]\nlisten = [\n \"127.0.0.1:1\",\n \"127.0.0.1:1\",\n]",
            "(line 4): \"127.0.0.1:1\" collides",
        ),
        ("[server]\nlisten = [\"unix:s\", \"unix:./s\"]", "collides"),
        ("[server]\nlisten = [\"unix:\"]", "has no path"),
        ("[server]\nlisten = [\"unix:none/s\"]", "does not exist"),
        (&long, "cannot be a socket"),
        ("[server]\nlisten = [\":50051\"]", "has no host"),
        ("[server]\nlisten = [\"127.0.0.1:\"]", "a port that is not a number"),
        ("[server]\nlisten = [\"127.0.0.1:+1\"]", "a port that is not a number"),
        ("[server]\nlisten = [\"::1:50051\"]", "not in brackets"),
        ("[server]\nlisten = [\"http://127.0.0.1:1\"]", "not an address to listen on"),
        ("[server]\nlisten = [\"host.invalid:1\"]", "cannot be resolved"),
        ("[server]\nlisten = [\"[::ffff:10.0.0.1]:1\"]", "beyond this machine"),
        ("[server]\ndrain_timeout = \"-5s\"", "is negative"),
        ("[server]\ndrain_timeout = \"soon\"", "is not a duration"),
        ("[server]\ndrain_timeout = \"25\"", "is not a duration"),
        ("[server]\ndrain_timeout = \"1us\"", "is too short"),
        ("[server]\ndrain_timeout = \"99999999999999999999years\"", "is too long"),
        ("[server]\ndrain_timeout = \"2h\"", "is too long"),
        ("[server]\nmax_connections = 0", "0 is out of range; give a number from 1 to 1000000"),
        ("[server]\nmax_request_bytes = 1023", "give a number from 1024 to 4194304"),
        ("[server]\nmax_header_list_bytes = 1048577", "give a number from 1024 to 1048576"),
        ("[server]\nmax_streams_per_connection = 4294967297", "4294967297 is out of range"),
        ("[server]\nhandshake_timeout = \"0s\"", "handshake_timeout (line 2): \"0s\" is too short"),
        ("[server]\nmax_connection_age = \"never\"", "\"never\" is not a duration; give a number and its"),
        ("[server]\nmax_connection_age = \"2h\"", "or \"off\""),
        ("[server]\nmax_connection_age_grace = \"off\"", "\"off\" is not a duration"),
        ("[server]\nunix_socket_mode = 0o600", "this is an integer; give a string"),
        ("[server]\nunix_socket_mode = \"600!\"", "\"600!\" is no mode"),
        ("[server]\nunix_socket_mode = \"0680\"", "\"0680\" is no mode"),
        ("[server]\nunix_socket_mode = \"1777\"", "\"1777\" is no mode"),
        ("[server]\nunix_socket_owner = \"\"", "there is no user \"\""),
        ("[server]\nunix_socket_owner = \"no-such-user\"", "there is no user \"no-such-user\""),
        ("[server]\nunix_socket_owner = \"0:no-such-group\"", "there is no group \"no-such-group\""),
        ("[server]\nunix_socket_owner = \"4294967295\"", "there is no user \"4294967295\""),
        ("[server]\ntls = true", "server.tls (line 2): this is a boolean; give a section, [server.tls]"),
        ("[server.tls]\ncertificate = \"ca.pem\"", "server.tls.private_key: this is missing"),
        (
            "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = 1",
            "private_key (line 3): this is an integer",
        ),
        ("[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \".\"", "is not a regular file"),
        (
            "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \"ca.pem\"",
            "server.tls.private_key (line 3)",
        ),
        (
            "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \"other.key\"",
            "is not the key of the certificate; name the PEM file of the certificate's own",
        ),
        (
            "[server.tls]\nclient_ca = \"empty.pem\"\ncertificate = \"ca.pem\"\nprivate_key = \"ca.key\"",
            "server.tls.client_ca (line 2)",
        ),
        ("[server]\nmax_concurrent_calls = \"4\"", "this is a string; give a whole number"),
        ("[server]\nmax_concurrent_calls = -1", "-1 is out of range"),
        ("[server]\nmax_concurrent_calls = 99999999999999999999", "is too large"),
        ("server = 1", "server (line 1): this is an integer; give a section, [server]"),
        ("[sever]\nlisten = []", "sever (line 1): there is no such key; did you mean server?"),
        ("\"a\\nb\" = 1", "a\\nb (line 1): there is no such key"),
        ("[admin]\nlisten = \"127.0.0.1:50051\"", "collides with 127.0.0.1:50051"),
        ("[admin]\nlisten = \"[::]:9464\"", "beyond this machine"),
        ("[admin]\nlisten = \"unix:/s\"", "cannot be a unix socket"),
        ("[upstream]\nurl = \"ftp://127.0.0.1\"", "the scheme is not https"),
        ("[upstream]\nurl = \"androidmanagement.googleapis.com\"", "not a URL"),
        ("[upstream]\nurl = \"https://h/?a=b\"", "a query or a fragment"),
        ("[upstream]\nurl = \"https://h/#a\"", "a query or a fragment"),
        ("[upstream]\nurl = \"https://h/v1/\"", "leave /v1 out"),
        ("[upstream]\nurl = \"https://h//x\"", "an empty or an escaped part"),
        ("[upstream]\nurl = \"http://127.0.0.1.example.com\"", "plain http"),
        ("[upstream]\niam_credentials_url = \"http://h\"", "iam_credentials_url (line 2): plain http would"),
        ("[upstream]\nca_certificates = \"empty.pem\"", "holds no certificate"),
        ("[upstream]\nca_certificates = \"garbage.pem\"", "a certificate that cannot be used"),
        ("[upstream]\nca_certificates = \".\"", "is not a regular file"),
        ("[audit]\nfile = \"none/audit.jsonl\"", "file (line 2): "),
        ("[audit]\nfile = \".\"", "is not a regular file; name a file that this user may write"),
        ("[audit]\nfile = \"\"", "is not a regular file"),
        ("[audit]\nfile = 1", "audit.file (line 2): this is an integer"),
        ("[audit]\non_failure = \"ignore\"", "on_failure (line 2): \"ignore\" is neither fail nor continue"),
        ("[audit]\nonfailure = \"fail\"", "there is no such key; did you mean on_failure?"),
        ("[polling]\nmax-wait = \"1m\"", "there is no such key; did you mean max_wait?"),
        ("[polling]\nmin_interval = 1", "min_interval (line 2): this is an integer; give a string"),
        ("[polling]\nmin_interval = \"0s\"", "min_interval (line 2): \"0s\" is too short"),
        ("[polling]\nmax_interval = \"2h\"", "max_interval (line 2): \"2h\" is too long"),
        ("[polling]\nmax_wait = \"long\"", "max_wait (line 2): \"long\" is not a duration"),
        ("[polling]\nmin_interval = \"21s\"", "min_interval (line 2): min_interval (21s) is longer than max"),
        ("[polling]\nmax_interval = \"5ms\"", "max_interval (line 2): min_interval (1s) is longer than max"),
        (
            "[polling]\nmax_interval = \"1s\"\nmin_interval = \"2s\"",
            "min_interval (line 3): min_interval (2s)",
        ),
        ("[polling]\nmax_interval = \"no\"\nmin_interval = \"30s\"", "max_interval (line 2): \"no\" is not"),
        ("[polling]\ncache_entries = -1", "-1 is out of range; give a number from 0, for none, to 1000000"),
        ("[polling]\ncache_entries = 1000001", "cache_entries (line 2): 1000001 is out of range"),
        ("[polling]\ncache_max_age = \"1us\"", "cache_max_age (line 2): \"1us\" is too short"),
    ] {
        let faults = room.faults(section);
        assert_eq!(faults.len(), 1, "{section}: {faults:#?}");
        assert!(faults[0].contains(part), "{section}: {}", faults[0]);
    }
}

#[test]
fn beyond_loopback_takes_tls_and_a_policy_and_the_fault_says_which_is_lacking() {
    let room = Room::new();
    let tls = "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \"ca.key\"\n";
    let policy = "[policy]\nfile = \"p.cedar\"\n";
    let both = format!("{tls}{policy}");
    for (given, lacking) in [
        ("", Some("in plaintext and by anyone; set up [server.tls] and a policy, listen on 127.0.0.1")),
        (tls, Some("and there is no policy on who may do what; give a policy, listen on")),
        (policy, Some("in plaintext; set up [server.tls], listen on")),
        (&both, None),
    ] {
        let of_listen = |overrides| {
            let address = "[server]\nlisten = [\"192.0.2.1:1\"]\n";
            let faults = match room.load(&format!("{address}{given}"), &[], overrides) {
                Ok(_) => Vec::new(),
                Err(faults) => faults,
            };
            faults
                .into_iter()
                .filter(|fault| fault.starts_with("server.listen (line 2): 192.0.2.1:1 can be"))
                .collect::<Vec<_>>()
        };
        let faults = of_listen(Overrides::default());
        assert_eq!(faults.len(), usize::from(lacking.is_some()), "{given}: {faults:#?}");
        if let Some(lacking) = lacking {
            assert!(
                faults[0].contains(lacking) && faults[0].contains("--allow-unauthenticated"),
                "{faults:?}"
            );
        }
        let allowed = Overrides { allow_unauthenticated: true, ..Overrides::default() };
        assert!(of_listen(allowed).is_empty(), "{given}");
    }
}

#[test]
fn the_owner_of_sockets_is_a_name_or_a_number() {
    let room = Room::new();
    for (text, user, group) in [
        ("root", Some(0), None),
        ("root:root", Some(0), Some(0)),
        ("12:34", Some(12), Some(34)),
        (":34", None, Some(34)),
        ("12", Some(12), None),
    ] {
        let variables = [("COUNTERMAND_UNIX_SOCKET_OWNER", text)];
        let overrides = Overrides { credentials: Some(room.path("key.json")), ..Overrides::default() };
        let config = room.load("", &variables, overrides).unwrap();
        assert_eq!(config.server.unix_socket.owner, Owner { user, group }, "{text}");
    }
}

#[test]
fn a_password_in_the_url_and_a_key_in_place_of_its_file_are_not_shown() {
    let room = Room::new();
    let faults = room.faults("[upstream]\nurl = \"https://me:hunter2@h\"").join("\n");
    assert!(faults.contains("a user or a password") && !faults.contains("hunter2"), "{faults}");
    for content in ["{\"private_key\": \"hunter2\"}", "-----BEGIN PRIVATE KEY-----hunter2"] {
        let variables = [("COUNTERMAND_CREDENTIALS", content)];
        let faults = room.load("", &variables, Overrides::default()).unwrap_err().join("\n");
        assert!(faults.contains("the content of a file") && !faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn what_is_not_toml_has_a_line_and_a_column_and_the_other_sources_are_still_checked() {
    let overrides = Overrides { listen: vec!["nowhere".to_owned()], ..Overrides::default() };
    let faults = Room::new().load("[server]\nlisten = [\n[admin\n", &[], overrides).unwrap_err();
    assert!(faults.iter().any(|fault| fault.starts_with("--config: not TOML at line ")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains("column ")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.starts_with("--listen: \"nowhere\"")), "{faults:#?}");
    assert!(!faults.iter().any(|fault| fault.contains("no credential")), "{faults:#?}");
}

#[test]
fn a_config_that_is_not_there_is_a_fault_of_what_named_it() {
    let variables = [("COUNTERMAND_CONFIG".into(), "/nowhere/c.toml".into())];
    let faults = Config::load(Overrides::default(), variables.into_iter().collect()).unwrap_err().to_string();
    assert!(faults.starts_with("COUNTERMAND_CONFIG: cannot read \"/nowhere/c.toml\""), "{faults}");
}

#[test]
fn variables_of_kubernetes_and_of_other_commands_are_no_typos() {
    let room = Room::new();
    let overrides = || Overrides { credentials: Some(room.path("key.json")), ..Overrides::default() };
    let others = [
        ("COUNTERMAND_SERVICE_HOST", "10.0.0.1"),
        ("COUNTERMAND_SERVICE_PORT", "50051"),
        ("COUNTERMAND_SERVICE_PORT_GRPC", "50051"),
        ("COUNTERMAND_PORT", "tcp://10.0.0.1:50051"),
        ("COUNTERMAND_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("COUNTERMAND_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("COUNTERMAND_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ("COUNTERMAND_SERVER", "127.0.0.1:50051"),
        ("COUNTERMAND_TLS_CA", "ca.pem"),
        ("COUNTERMAND_EMULATOR_LATENCY", "5ms"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/unused/since/there/is/another"),
        ("OTHER", "x"),
    ];
    room.load("", &others, overrides()).unwrap();
    for typo in ["COUNTERMAND_PORT", "COUNTERMAND_LISTEN_PORT", "COUNTERMAND_SERVERS", "COUNTERMAND_"] {
        let faults = room.load("", &[(typo, "50051")], overrides()).expect_err(typo);
        assert!(faults[0].starts_with(&format!("{typo}: there is no such variable")), "{faults:?}");
    }
}

#[test]
fn a_name_is_resolved_and_ipv4_is_preferred() {
    let room = Room::new();
    let overrides = Overrides {
        listen: vec!["localhost:50051".to_owned()],
        credentials: Some(room.path("key.json")),
        ..Overrides::default()
    };
    let config = room.load("", &[], overrides).unwrap();
    assert_eq!(config.server.listen, [ListenAddress::Tcp(([127, 0, 0, 1], 50051).into())]);
}
