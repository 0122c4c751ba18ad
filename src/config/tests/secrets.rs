//! What was given where a secret does not belong.

use crate::config::{Overrides, tests::Room};

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
