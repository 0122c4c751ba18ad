//! The faults of variables.

use crate::config::{Overrides, tests::Room};

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
