//! What was given where a secret does not belong.

use crate::{
    config::{Overrides, tests::Room},
    pem::{KEY_ON_ONE_LINE, shows_the_key},
};

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
fn a_key_in_a_file_of_certificates_is_not_shown() {
    let room = Room::new();
    std::fs::write(room.path("key.pem"), KEY_ON_ONE_LINE).unwrap();
    for section in [
        "[upstream]\nca_certificates = \"key.pem\"",
        "[server.tls]\ncertificate = \"key.pem\"\nprivate_key = \"ca.key\"",
        "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \"ca.key\"\nclient_ca = \"key.pem\"",
    ] {
        let faults = room.faults(section).join("\n");
        assert!(faults.contains("is not PEM") && !shows_the_key(&faults), "{faults}");
    }
}

#[test]
fn a_key_that_breaks_the_file_or_became_a_text_of_it_is_not_shown() {
    let room = Room::new();
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2==\n-----END PRIVATE KEY-----";
    for file in [
        key.to_owned(),
        format!("[upstream]\nca_certificates = \"{key}\""),
        format!("[upstream]\nca_certificates = {key}"),
        format!("[upstream]\nca_certificates = \"\"\"{key}\"\"\""),
        "{\n  \"private_key\": \"hunter2\"\n}".to_owned(),
    ] {
        let faults = room.faults(&file).join("\n");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}
