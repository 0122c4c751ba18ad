//! A secret that stands where no file is named, nor a secret wanted: the fault is told without it.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::Room;
use crate::config::Overrides;

const JSON: &str = r#"{"type": "authorized_user", "client_secret": "hunter2", "refresh_token": "hunter2"}"#;

/// A line of a PEM file.
const LINE: &str = "hunter2/Ow4kcPhN7JpAyq8hT1RvDxKQ2bZ+eJ0mWl5GdUf3oSXi9cEtVnYB6rLa";

/// Each holds `hunter2`, as it is or by itself in base64.
fn secrets() -> Vec<String> {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{LINE}\n-----END PRIVATE KEY-----\n");
    vec![
        JSON.to_owned(),
        format!(" '{JSON}'"),
        JSON.replace(", ", ",\n\t"),
        pem.replace('\n', ""),
        pem.replace('\n', " "),
        pem,
        format!("hunter2\r\n{LINE}"),
        LINE.to_owned(),
        format!("{}hunter2", BASE64_STANDARD.encode(&JSON[..30])),
        format!("{}hunter2", BASE64_STANDARD.encode("-----BEGIN PRIVATE KEY-----")),
        "1//0hunter2".to_owned(),
        "ya29.hunter2".to_owned(),
        "GOCSPX-hunter2".to_owned(),
        "AIzahunter2".to_owned(),
        "hunter2 ".repeat(16),
    ]
}

fn untold(faults: &[String], case: &str) {
    let told = faults.join("\n");
    assert!(!told.contains("hunter2"), "{case}: {told}");
    assert!(told.contains("(not shown here: it looks like a secret)"), "{case}: {told}");
}

#[test]
fn by_any_key_of_the_file() {
    let room = Room::new();
    for secret in secrets() {
        // A string of TOML has the escapes of one of Rust's.
        for section in [
            format!("[server]\nlisten = [{secret:?}]"),
            format!("[server]\nlisten = [{:?}]", format!("unix:/{secret}/s")),
            format!("[server]\ndrain_timeout = {secret:?}"),
            format!("[server]\nunix_socket_mode = {secret:?}"),
            format!("[server]\nunix_socket_owner = {secret:?}"),
            format!("[server]\nmax_connection_age = {secret:?}"),
            format!("[admin]\nlisten = {secret:?}"),
            format!("[callers]\nmesh_proxies = [{secret:?}]"),
            format!("[callers.jwt]\nalgorithms = [{secret:?}]"),
            format!("[callers.jwt]\nissuer = {:?}", format!("#{secret}")),
            format!("[polling]\nmax_wait = {secret:?}"),
            format!("[audit]\non_failure = {secret:?}"),
            format!("[[credentials]]\nfile = \"key.json\"\nname = {:?}", format!("{secret}?")),
            format!("[[credentials]]\nfile = \"key.json\"\nname = \"a\"\nimpersonate = {secret:?}"),
            format!(
                "[[credentials]]\nfile = \"key.json\"\nname = \"a\"\nenterprises = [{:?}]",
                format!("{secret}?")
            ),
            format!("[{secret:?}]\nx = 1"),
            format!("[server]\n{secret:?} = 1"),
        ] {
            untold(&room.faults(&section), &section);
        }
    }
}

#[test]
fn by_any_variable() {
    let room = Room::new();
    for secret in secrets() {
        for name in [
            "COUNTERMAND_LISTEN",
            "COUNTERMAND_ADMIN_LISTEN",
            "COUNTERMAND_DRAIN_TIMEOUT",
            "COUNTERMAND_MAX_CONNECTIONS",
            "COUNTERMAND_ALLOW_UNAUTHENTICATED",
            "COUNTERMAND_CALLERS_LINKERD_CLIENT_ID",
            "COUNTERMAND_CALLERS_MESH_PROXIES",
            "COUNTERMAND_LOG_FORMAT",
        ] {
            untold(&room.load("", &[(name, &secret)], Overrides::default()).unwrap_err(), name);
        }
        let told = room.load("[sever]", &[("RUST_LOG", &secret)], Overrides::default()).unwrap_err();
        assert!(!told.join("\n").contains("hunter2"), "{told:#?}");
    }
}

#[test]
fn by_any_flag() {
    let room = Room::new();
    for secret in secrets() {
        for (flag, overrides) in [
            ("--listen", Overrides { listen: vec![secret.clone()], ..Overrides::default() }),
            ("--admin-listen", Overrides { admin_listen: Some(secret.clone()), ..Overrides::default() }),
        ] {
            untold(&room.load("", &[], overrides).unwrap_err(), flag);
        }
    }
}

#[test]
fn in_place_of_a_files_name_too() {
    let room = Room::new();
    for token in ["1//0hunter2", "ya29.hunter2", "GOCSPX-hunter2", "AIzahunter2", LINE] {
        untold(&room.faults(&format!("[upstream]\nca_certificates = {token:?}")), token);
    }
}

#[test]
fn what_is_no_secret_is_shown() {
    let room = Room::new();
    let path =
        "/var/run/secrets/kubernetes.io/3f8a2c1b-9d7e-4f50-8c1d-0123456789ab/Emea2/CountermandProxyKey1.pem";
    let long = format!("/srv{}/key", "/Countermand-Production-2026".repeat(5));
    let email = "countermand-proxy-emea-prod-2@mdm-Operations-Production-eu.iam.gserviceaccount.com?";
    for (section, value) in [
        ("[server]\ndrain_timeout = ", "soon"),
        ("[admin]\nlisten = ", "\"[::1]:http\""),
        ("[admin]\nlisten = ", "countermand-admin.Mdm-Production-2.svc.cluster.local"),
        ("[upstream]\nca_certificates = ", path),
        ("[upstream]\nca_certificates = ", &long),
        ("[callers]\nmesh_proxies = ", "https://mesh.example/ns/Mdm/sa/Console1/of/Countermand2/in/Emea3"),
        ("[[credentials]]\nfile = \"key.json\"\nname = \"a\"\nimpersonate = ", email),
    ] {
        let value = if section.contains("mesh") { format!("{:?}", [value]) } else { format!("{value:?}") };
        let faults = room.faults(&format!("{section}{value}")).join("\n");
        assert!(faults.contains(value.trim_matches(['[', ']'])), "{faults}");
    }
}
