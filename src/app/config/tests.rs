//! The errors of configurations, and their texts.

mod at_once;
mod audit;
mod callers;
mod credentials;
mod environment;
mod file;
mod fixture;
mod guard;
mod listen;
mod policy;
mod polling;
mod precedence;
mod quota;
mod secrets;
mod server;
mod tls;
mod upstream;

use crate::config::Flags;

pub(crate) use fixture::Directory;

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_file() {
    let errors = Directory::new()
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
            Flags::default().with("--policy", "p.cedar"),
        )
        .unwrap_err();
    let begins = [
        "--policy: cannot read the file",
        "server.tls.private_key: this is missing; name a PEM file",
        "credentials: there is no credential; give --credentials FILE, a [[credentials]] section",
        "COUNTERMAND_LOG_FORMAT: there is no such value; give text or json",
        "COUNTERMAND_LISTNE: there is no such variable; did you mean COUNTERMAND_LISTEN?",
        "listen (line 1): there is no such key; the keys here are policy, server, admin,",
        "server.listen (line 3): the address has no port; give host:port",
        "server.listen (line 3): the address has a port above 65535",
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
    assert_eq!(errors.len(), begins.len(), "{errors:#?}");
    for (error, begin) in errors.iter().zip(begins) {
        assert!(error.starts_with(begin), "{error}\nshould begin\n{begin}");
    }
}
