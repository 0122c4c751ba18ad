//! The faults of `[server.tls]`.

use std::fs;

use crate::config::tests::Room;

#[test]
fn each_fault_says_what_is_wrong() {
    let room = Room::new();
    fs::write(room.path("empty.pem"), "").unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(room.path("other.key"), other.serialize_pem()).unwrap();
    room.tells([
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
    ]);
}
