//! The faults of variables.

use crate::config::{OF_OTHER_COMMANDS, Overrides, tests::Room};

#[test]
fn variables_of_kubernetes_and_of_other_commands_are_no_typos() {
    let room = Room::new();
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
    let variables = [&others[..], &OF_OTHER_COMMANDS.map(|name| (name, "x"))].concat();
    room.load("", &variables, with_a_key(&room)).unwrap();
}

fn with_a_key(room: &Room) -> Overrides {
    Overrides { credentials: Some(room.path("key.json")), ..Overrides::default() }
}

#[test]
fn a_variable_that_nothing_reads_is_a_fault_with_the_nearest_name() {
    let room = Room::new();
    for (unknown, cure) in [
        ("COUNTERMAND_PORT", "unset it"),
        ("COUNTERMAND_", "unset it"),
        ("COUNTERMAND_TLS_FOO", "unset it"),
        ("COUNTERMAND_EMULATOR_X", "unset it"),
        ("COUNTERMAND_EMULATOR_LATENCY", "unset it"),
        // It could be that of several.
        ("COUNTERMAND_TIMEOUT", "unset it"),
        ("COUNTERMAND_LISTNE", "did you mean COUNTERMAND_LISTEN?"),
        ("COUNTERMAND_SERVERS", "did you mean COUNTERMAND_SERVER?"),
        ("COUNTERMAND_LISTEN_PORT", "did you mean COUNTERMAND_LISTEN?"),
        ("COUNTERMAND_ADMIN_LISTEN_PORT", "did you mean COUNTERMAND_ADMIN_LISTEN?"),
        ("COUNTERMAND_TLS_CERTIFICATE", "did you mean COUNTERMAND_SERVER_TLS_CERTIFICATE?"),
        ("COUNTERMAND_TLS_PRIVATE_KEY", "did you mean COUNTERMAND_SERVER_TLS_PRIVATE_KEY?"),
        ("COUNTERMAND_UPSTREAM_CA_CERTIFICATES", "did you mean COUNTERMAND_UPSTREAM_CA?"),
        ("COUNTERMAND_SERVER_DRAIN_TIMEOUT", "did you mean COUNTERMAND_DRAIN_TIMEOUT?"),
    ] {
        let faults = room.load("", &[(unknown, "50051")], with_a_key(&room)).expect_err(unknown);
        assert_eq!(faults, [format!("{unknown}: there is no such variable; {cure}")]);
    }
}
