//! The errors of addresses to listen on.

use super::Directory;
use crate::{config::Flags, server::settings::ListenAddress};

#[test]
fn each_error_has_its_text() {
    let directory = Directory::new();
    let long = format!("[server]\nlisten = [\"unix:/tmp/{}\"]", "x".repeat(120));
    directory.assert_each_errs([
        ("[server]\nlisten = []", "server.listen (line 2): the list is empty"),
        ("[server]\nlisten = \"127.0.0.1:1\"", "this is a string; give a list of strings"),
        ("[server]\nlisten = [1]", "this is an integer; give a string"),
        ("[server]\nlisten = [\n \"127.0.0.1:1\",\n \"127.0.0.1:1\",\n]", "(line 4): the address collides"),
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
        ("[admin]\nlisten = \"127.0.0.1:50051\"", "collides with 127.0.0.1:50051"),
        ("[admin]\nlisten = \"[::]:9464\"", "beyond this machine"),
        ("[admin]\nlisten = \"unix:/s\"", "cannot be a unix socket"),
        ("[telemetry]\nlisten = \"127.0.0.1:50051\"", "collides with 127.0.0.1:50051, which serves gRPC"),
        ("[telemetry]\nlisten = \"0.0.0.0:50051\"", "collides with 127.0.0.1:50051, which serves gRPC"),
        ("[telemetry]\nlisten = \"127.0.0.1:9464\"", "collides with the admin port"),
        ("[telemetry]\nlisten = \"unix:/s\"", "cannot be a unix socket"),
        ("[telemetry]\nlisten = \"9465\"", "has no port"),
    ]);
}

#[test]
fn an_address_beyond_loopback_requires_tls_and_a_policy() {
    let directory = Directory::new();
    let tls = "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \"ca.key\"\n";
    let policy = "[policy]\nfile = \"p.cedar\"\n";
    let both = format!("{tls}{policy}");
    let shadow = format!("{policy}mode = \"shadow\"\n");
    let tls_and_shadow = format!("{tls}{shadow}");
    for (given, expected) in [
        ("", Some("in plaintext and by anyone; set up [server.tls] and a policy, listen on 127.0.0.1")),
        (tls, Some("and there is no policy on who may do what; give a policy, listen on")),
        (policy, Some("in plaintext; set up [server.tls], listen on")),
        (&shadow, Some("in plaintext and by anyone; set up [server.tls] and enforce the policy, listen on")),
        (&tls_and_shadow, Some("and a policy in shadow mode denies nothing; enforce the policy, listen on")),
        (&both, None),
    ] {
        let listen_errors = |flags| {
            let address = "[server]\nlisten = [\"192.0.2.1:1\"]\n";
            let errors = match directory.load(&format!("{address}{given}"), &[], flags) {
                Ok(_) => Vec::new(),
                Err(errors) => errors,
            };
            errors
                .into_iter()
                .filter(|error| error.starts_with("server.listen (line 2): 192.0.2.1:1 can be"))
                .collect::<Vec<_>>()
        };
        let errors = listen_errors(Flags::default());
        assert_eq!(errors.len(), usize::from(expected.is_some()), "{given}: {errors:#?}");
        if let Some(expected) = expected {
            assert!(
                errors[0].contains(expected) && errors[0].contains("--allow-unauthenticated"),
                "{errors:?}"
            );
        }
        let allowed = Flags::default().with("--allow-unauthenticated", "true");
        assert!(listen_errors(allowed).is_empty(), "{given}");
    }
}

#[test]
fn the_telemetry_listener_may_be_beyond_loopback() {
    let directory = Directory::new();
    let flags = Flags::default().with("--credentials", directory.path("key.json"));
    let config = directory.load("[telemetry]\nlisten = \"0.0.0.0:9465\"", &[], flags).unwrap();
    assert_eq!(config.settings.telemetry.listen, Some(([0, 0, 0, 0], 9465).into()));
}

#[test]
fn a_name_is_resolved_and_ipv4_is_preferred() {
    let directory = Directory::new();
    let flags = Flags::default()
        .with("--listen", "localhost:50051".to_owned())
        .with("--credentials", directory.path("key.json"));
    let config = directory.load("", &[], flags).unwrap();
    assert_eq!(config.settings.server.listen, [ListenAddress::Tcp(([127, 0, 0, 1], 50051).into())]);
}
