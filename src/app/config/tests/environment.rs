//! The errors of environment variables.

use super::Directory;
use crate::{app::config::OTHER_COMMANDS_VARIABLES, config::Flags};

#[test]
fn variables_of_kubernetes_and_other_commands_are_accepted() {
    let directory = Directory::new();
    let others = [
        ("COUNTERMAND_SERVICE_HOST", "10.0.0.1"),
        ("COUNTERMAND_SERVICE_PORT", "50051"),
        ("COUNTERMAND_SERVICE_PORT_GRPC", "50051"),
        ("COUNTERMAND_PORT", "tcp://10.0.0.1:50051"),
        ("COUNTERMAND_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("COUNTERMAND_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("COUNTERMAND_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/unused/since/there/is/another"),
        ("OTHER", "x"),
    ];
    let variables = [&others[..], &OTHER_COMMANDS_VARIABLES.map(|name| (name, "x"))].concat();
    directory.load("", &variables, with_a_key(&directory)).unwrap();
}

fn with_a_key(directory: &Directory) -> Flags {
    Flags::default().with("--credentials", directory.path("key.json"))
}

#[test]
fn a_variable_that_resembles_a_known_one_is_an_error_with_a_suggestion() {
    let directory = Directory::new();
    for (unknown, known) in [
        ("COUNTERMAND_LISTNE", "COUNTERMAND_LISTEN"),
        ("COUNTERMAND_SERVERS", "COUNTERMAND_SERVER"),
        ("COUNTERMAND_LISTEN_PORT", "COUNTERMAND_LISTEN"),
        ("COUNTERMAND_ADMIN_LISTEN_PORT", "COUNTERMAND_ADMIN_LISTEN"),
        ("COUNTERMAND_TLS_CERTIFICATE", "COUNTERMAND_SERVER_TLS_CERTIFICATE"),
        ("COUNTERMAND_TLS_PRIVATE_KEY", "COUNTERMAND_SERVER_TLS_PRIVATE_KEY"),
        ("COUNTERMAND_UPSTREAM_CA_CERTIFICATES", "COUNTERMAND_UPSTREAM_CA"),
        ("COUNTERMAND_SERVER_DRAIN_TIMEOUT", "COUNTERMAND_DRAIN_TIMEOUT"),
    ] {
        let errors = directory.load("", &[(unknown, "50051")], with_a_key(&directory)).expect_err(unknown);
        assert_eq!(errors, [format!("{unknown}: there is no such variable; did you mean {known}?")]);
    }
}

#[test]
fn a_variable_that_resembles_no_known_one_is_reported_without_an_error() {
    let directory = Directory::new();
    for unknown in [
        "COUNTERMAND_PORT",
        "COUNTERMAND_",
        "COUNTERMAND_TLS_FOO",
        "COUNTERMAND_EMULATOR_X",
        "COUNTERMAND_EMULATOR_LATENCY",
        // Several variables end with this word.
        "COUNTERMAND_TIMEOUT",
    ] {
        let config = directory.load("", &[(unknown, "50051")], with_a_key(&directory)).unwrap();
        assert_eq!(config.unknown_variables, [unknown]);
    }
}
