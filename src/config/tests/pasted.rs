//! A key that stands where the name of its file should: it is said so, and not shown.

use super::Room;
use crate::config::{Config, Overrides};

const CONTENTS: [&str; 8] = [
    r#"{"type":"authorized_user","client_secret":"hunter2","refresh_token":"1//0ghunter2"}"#,
    r#" '{"private_key": "hunter2"}'"#,
    r#"{"token_uri": "https://oauth2.googleapis.com/token", "private_key": "hunter2"}"#,
    "-----BEGIN PRIVATE KEY-----hunter2",
    "key:\nhunter2",
    "\"type\": \"hunter2\"",
    "ewogICJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCIsCiAgInhhunter2",
    "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0thunter2",
];

/// Long names are no better.
fn contents() -> Vec<String> {
    let long = [format!("hunter2{}", "x".repeat(250)), "hunter2/".repeat(600)];
    CONTENTS.map(str::to_owned).into_iter().chain(long).collect()
}

fn told(faults: &[String], case: &str) {
    let told = faults.join("\n");
    assert!(!told.contains("hunter2"), "{case}: {told}");
    assert!(told.contains("this is the content of a file (not shown here)"), "{case}: {told}");
}

#[test]
fn by_any_key_of_the_file() {
    let room = Room::new();
    let tls = r#"certificate = "ca.pem""#;
    let jwt = "issuer = \"i\"\naudience = \"a\"";
    let url = r#"jwks = "https://i.example""#;
    for content in contents() {
        // A string of TOML has the escapes of one of Rust's.
        for (before, key) in [
            ("[[credentials]]\nname = \"a\"\nenterprises = [\"LC01\"]", "file"),
            ("[server.tls]\nprivate_key = \"ca.key\"", "certificate"),
            (&*format!("[server.tls]\n{tls}"), "private_key"),
            (&format!("[server.tls]\n{tls}\nprivate_key = \"ca.key\""), "client_ca"),
            ("[upstream]", "ca_certificates"),
            ("[policy]", "file"),
            ("[audit]", "file"),
            (&format!("[callers.jwt]\n{jwt}"), "jwks"),
            (&format!("[callers.jwt]\n{jwt}\n{url}"), "jwks_ca_certificates"),
            (&format!("[callers.jwt]\n{jwt}\n{url}"), "jwks_token_file"),
        ] {
            let section = format!("{before}\n{key} = {content:?}");
            let faults = room.faults(&section);
            told(&faults, &section);
            assert_eq!(faults.len(), 1, "{section}: {faults:#?}");
            let named = format!("{key} (line {}): ", section.replace("\\n", "").lines().count());
            assert!(faults[0].contains(&named), "{faults:#?}");
        }
    }
}

#[test]
fn by_any_variable() {
    let room = Room::new();
    let jwt = [
        ("COUNTERMAND_CALLERS_JWT_ISSUER", "i"),
        ("COUNTERMAND_CALLERS_JWT_AUDIENCE", "a"),
        ("COUNTERMAND_CALLERS_JWT_JWKS", "https://i.example"),
    ];
    for content in contents() {
        for name in [
            "COUNTERMAND_CREDENTIALS",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "COUNTERMAND_SERVER_TLS_CERTIFICATE",
            "COUNTERMAND_SERVER_TLS_PRIVATE_KEY",
            "COUNTERMAND_SERVER_TLS_CLIENT_CA",
            "COUNTERMAND_UPSTREAM_CA",
            "COUNTERMAND_POLICY",
            "COUNTERMAND_AUDIT_FILE",
            "COUNTERMAND_CALLERS_JWT_JWKS",
            "COUNTERMAND_CALLERS_JWT_JWKS_CA_CERTIFICATES",
            "COUNTERMAND_CALLERS_JWT_JWKS_TOKEN_FILE",
        ] {
            let others = jwt.iter().copied().filter(|(other, _)| name.contains("_JWT_") && *other != name);
            let variables: Vec<_> = others.chain([(name, &*content)]).collect();
            let faults = room.load("", &variables, Overrides::default()).unwrap_err();
            told(&faults, name);
            assert!(faults.iter().any(|fault| fault.starts_with(&format!("{name}: this is"))), "{faults:#?}");
        }
    }
}

#[test]
fn by_any_flag() {
    let room = Room::new();
    for content in contents() {
        let given = || Some(content.clone().into());
        for (flag, overrides) in [
            ("--credentials", Overrides { credentials: given(), ..Overrides::default() }),
            ("--upstream-ca", Overrides { upstream_ca: given(), ..Overrides::default() }),
            ("--policy", Overrides { policy: given(), ..Overrides::default() }),
        ] {
            told(&room.load("", &[], overrides).unwrap_err(), flag);
        }
        let overrides = Overrides { config: given(), ..Overrides::default() };
        let faults = Config::load(overrides, std::iter::empty().collect()).unwrap_err();
        told(&[faults.to_string()], "--config");
        assert_eq!(faults.file(), None, "nor is it named as the file at fault");
    }
}

#[test]
fn and_a_name_that_only_looks_odd_is_still_one() {
    let room = Room::new();
    for name in ["eY.json", "ewok.json", "a{b}.json", "client_secret_1.apps.json", "-----.pem", "it's.json"] {
        std::fs::copy(room.path("key.json"), room.path(name)).unwrap();
        let file = format!("[[credentials]]\nname = \"a\"\nfile = {name:?}");
        room.load(&file, &[], Overrides::default()).unwrap();
    }
}
