//! A value that may be a secret is never printed, regardless of its setting.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::Directory;
use crate::{
    app::config::Config,
    config::Flags,
    credentials::Machine,
    pem::{KEY_ON_ONE_LINE, shows_the_key},
};

const JSON: &str = r#"{"type": "authorized_user", "client_secret": "hunter2", "refresh_token": "hunter2"}"#;

/// A line of a PEM file.
const LINE: &str = "hunter2/Ow4kcPhN7JpAyq8hT1RvDxKQ2bZ+eJ0mWl5GdUf3oSXi9cEtVnYB6rLa";

/// Secrets in several forms. Each contains `hunter2`.
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
        "1//0hunter2".to_owned(),
        "GOCSPX-hunter2".to_owned(),
        "hunter2".to_owned(),
        "hunter2 ".repeat(16),
        format!("hunter2{}", "x".repeat(250)),
        "hunter2/".repeat(600),
    ]
}

fn assert_not_printed(errors: &[String], case: &str) {
    assert!(!errors.is_empty(), "{case}");
    let printed = errors.join("\n");
    assert!(!printed.contains("hunter2"), "{case}: {printed}");
}

#[test]
fn no_secret_in_the_file_is_printed() {
    let directory = Directory::new();
    let tls = r#"certificate = "ca.pem""#;
    let jwt = "issuer = \"i\"\naudience = \"a\"";
    let url = r#"jwks = "https://i.example""#;
    let store = "url = \"rediss://valkey\"\nreplicas = 3";
    for secret in secrets() {
        // TOML has the string escapes of Rust.
        for section in [
            format!("[server]\nlisten = [{secret:?}]"),
            format!("[server]\nlisten = [{:?}]", format!("unix:/{secret}/s")),
            format!("[server]\ndrain_timeout = {secret:?}"),
            format!("[server]\nunix_socket_mode = {secret:?}"),
            format!("[server]\nunix_socket_owner = {secret:?}"),
            format!("[server]\nmax_connection_age = {secret:?}"),
            format!("[server]\nmax_connections = {secret:?}"),
            format!("[server.tls]\n{tls}\nprivate_key = {secret:?}"),
            format!("[server.tls]\nprivate_key = \"ca.key\"\ncertificate = {secret:?}"),
            format!("[server.tls]\n{tls}\nprivate_key = \"ca.key\"\nclient_ca = {secret:?}"),
            format!("[admin]\nlisten = {secret:?}"),
            format!("[upstream]\nurl = {secret:?}"),
            format!("[upstream]\nurl = {:?}", format!("https://me:{secret}@h")),
            format!("[upstream]\nca_certificates = {secret:?}"),
            format!("[policy]\nfile = {secret:?}"),
            format!("[callers]\nmesh_proxies = [{secret:?}]"),
            format!("[callers]\nlinkerd_client_id = {secret:?}"),
            format!("[callers.jwt]\nalgorithms = [{secret:?}]"),
            format!("[callers.jwt]\nissuer = {:?}", format!("#{secret}")),
            format!("[callers.jwt]\n{jwt}\njwks = {secret:?}"),
            format!("[callers.jwt]\n{jwt}\n{url}\njwks_ca_certificates = {secret:?}"),
            format!("[callers.jwt]\n{jwt}\n{url}\njwks_token_file = {secret:?}"),
            format!("[polling]\nmax_wait = {secret:?}"),
            format!("[audit]\non_failure = {secret:?}"),
            format!("[audit]\nfile = {:?}", format!("none/{secret}")),
            format!("[[credentials]]\nname = \"a\"\nfile = {secret:?}"),
            format!("[[credentials]]\nfile = \"key.json\"\nname = {:?}", format!("{secret}?")),
            format!("[[credentials]]\nfile = \"key.json\"\nname = \"a\"\nimpersonate = {secret:?}"),
            format!(
                "[[credentials]]\nfile = \"key.json\"\nname = \"a\"\nproject = {:?}",
                format!("{secret}?")
            ),
            format!(
                "[[credentials]]\nfile = \"key.json\"\nname = \"a\"\nenterprises = [{:?}]",
                format!("{secret}?")
            ),
            format!("[[quota]]\nproject = {:?}", format!("{secret}?")),
            format!("[[quota]]\nproject = {secret:?}\n[[quota]]\nproject = {secret:?}"),
            format!("[[quota]]\nperiod = {secret:?}"),
            format!("[[quota]]\nmode = {secret:?}"),
            format!("[[quota]]\n[quota_shared]\nreplicas = 3\nurl = {secret:?}"),
            format!("[[quota]]\n[quota_shared]\nreplicas = 3\nurl = {:?}", format!("rediss://me:{secret}@h")),
            format!(
                "[[quota]]\n[quota_shared]\nreplicas = 3\nurl = {:?}",
                format!("rediss://:{secret}@h:6379/1")
            ),
            format!("[[quota]]\n[quota_shared]\nreplicas = 3\nurl = {:?}", format!("redis://{secret}:6379")),
            format!("[[quota]]\n[quota_shared]\nreplicas = 3\nurl = {:?}", format!("unix://{secret}")),
            format!(
                "[[quota]]\n[quota_shared]\nreplicas = 3\nurl = {:?}",
                format!("rediss://h?password={secret}")
            ),
            format!("[[quota]]\n[quota_shared]\nreplicas = {secret:?}"),
            format!("[[quota]]\n[quota_shared]\nusername = {secret:?}"),
            format!("[[quota]]\n[quota_shared]\n{store}\npassword_file = {secret:?}"),
            format!("[[quota]]\n[quota_shared]\n{store}\nca_certificates = {secret:?}"),
            format!("[[quota]]\n[quota_shared]\n{store}\npassword = {secret:?}"),
            format!("[{:?}]\nx = 1", format!("{secret}?")),
            format!("[server]\n{:?} = 1", format!("{secret}?")),
        ] {
            assert_not_printed(&directory.errors(&section), &section);
        }
    }
}

#[test]
fn no_secret_in_a_variable_is_printed() {
    let directory = Directory::new();
    let jwt = [
        ("COUNTERMAND_CALLERS_JWT_ISSUER", "i"),
        ("COUNTERMAND_CALLERS_JWT_AUDIENCE", "a"),
        ("COUNTERMAND_CALLERS_JWT_JWKS", "https://i.example"),
    ];
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
            "COUNTERMAND_CREDENTIALS",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GCE_METADATA_HOST",
            "COUNTERMAND_SERVER_TLS_CERTIFICATE",
            "COUNTERMAND_SERVER_TLS_PRIVATE_KEY",
            "COUNTERMAND_SERVER_TLS_CLIENT_CA",
            "COUNTERMAND_UPSTREAM_CA",
            "COUNTERMAND_POLICY",
            "COUNTERMAND_CALLERS_JWT_JWKS",
            "COUNTERMAND_CALLERS_JWT_JWKS_CA_CERTIFICATES",
            "COUNTERMAND_CALLERS_JWT_JWKS_TOKEN_FILE",
            "RUST_LOG",
        ] {
            let others = jwt.iter().copied().filter(|(other, _)| name.contains("_JWT_") && *other != name);
            let variables: Vec<_> = others.chain([(name, &*secret)]).collect();
            if let Err(errors) = directory.load("", &variables, Flags::default()) {
                assert_not_printed(&errors, name);
            }
        }
    }
}

#[test]
fn no_secret_in_a_flag_is_printed() {
    let directory = Directory::new();
    for secret in secrets() {
        for flag in
            ["--listen", "--admin-listen", "--credentials", "--upstream-url", "--upstream-ca", "--policy"]
        {
            let flags = Flags::default().with(flag, &secret);
            assert_not_printed(&directory.load("", &[], flags).err().unwrap(), flag);
        }
        let flags = Flags::default().with("--config", &secret);
        let errors = Config::load(flags, std::iter::empty().collect(), Machine::Elsewhere).err().unwrap();
        assert_not_printed(&[errors.to_string()], "--config");
        assert_eq!(errors.file(), None, "the file of the errors is not printed either");
    }
}

#[test]
fn no_secret_in_a_file_of_certificates_is_printed() {
    let directory = Directory::new();
    std::fs::write(directory.path("key.pem"), KEY_ON_ONE_LINE).unwrap();
    for section in [
        "[upstream]\nca_certificates = \"key.pem\"",
        "[server.tls]\ncertificate = \"key.pem\"\nprivate_key = \"ca.key\"",
        "[server.tls]\ncertificate = \"ca.pem\"\nprivate_key = \"ca.key\"\nclient_ca = \"key.pem\"",
    ] {
        let errors = directory.errors(section).join("\n");
        assert!(errors.contains("is not PEM") && !shows_the_key(&errors), "{errors}");
    }
}

#[test]
fn no_secret_in_a_file_that_is_not_toml_is_printed() {
    let directory = Directory::new();
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2==\n-----END PRIVATE KEY-----";
    for file in [
        key.to_owned(),
        format!("[upstream]\nca_certificates = \"{key}\""),
        format!("[upstream]\nca_certificates = {key}"),
        format!("[upstream]\nca_certificates = \"\"\"{key}\"\"\""),
        "{\n  \"private_key\": \"hunter2\"\n}".to_owned(),
    ] {
        assert_not_printed(&directory.errors(&file), &file);
    }
}

#[test]
fn numbers_durations_and_listening_addresses_are_printed() {
    let directory = Directory::new();
    for (section, printed) in [
        ("[server]\nmax_connections = -7", "-7 is out of range"),
        ("[server]\ndrain_timeout = \"2h\"", "\"2h\" is too long"),
        ("[server]\nlisten = [\"192.0.2.1:1\"]", "192.0.2.1:1 can be reached"),
    ] {
        let errors = directory.errors(section).join("\n");
        assert!(errors.contains(printed), "{errors}");
    }
}
