//! The errors of `[server.tls]`.

use std::fs;

use super::Directory;

#[test]
fn each_error_has_its_text() {
    let directory = Directory::new();
    fs::write(directory.path("empty.pem"), "").unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(directory.path("other.key"), other.serialize_pem()).unwrap();
    directory.assert_each_errs([
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
            "is not the key of the certificate; name the PEM file with the certificate's private key",
        ),
        (
            "[server.tls]\nclient_ca = \"empty.pem\"\ncertificate = \"ca.pem\"\nprivate_key = \"ca.key\"",
            "server.tls.client_ca (line 2)",
        ),
    ]);
}

#[test]
fn all_files_are_checked_at_once() {
    let directory = Directory::new();
    fs::write(directory.path("bad.pem"), "bad").unwrap();
    let files = "[server.tls]\ncertificate = \"bad.pem\"\nprivate_key = \"bad.pem\"\nclient_ca = \"bad.pem\"";
    let errors = directory.errors(files);
    assert_eq!(errors.len(), 3, "{errors:#?}");
}
