//! From a command line, an environment and a file to the whole configuration.

mod alone;
mod defaults;
mod faults;
mod file;
mod flags;
mod variables;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory, Parser};

use crate::{
    caller::Identity,
    cli::{Cli, Command},
    config::{Config, Credential, Environment, Faults, ListenAddress, Polling, tests::Room},
    credentials::{Definition, Origin, Pattern},
    server::{
        identity::{
            forwarded::workload_identity,
            issuer::{Key, key_set},
            jwks::Algorithm,
        },
        settings::TlsFiles,
    },
};

use file::FULL;

/// Writes the files that the cases name. `@` in a case stands for this directory.
fn room() -> Room {
    let room = Room::new();
    fs::copy(room.path("key.json"), room.path("other.json")).unwrap();
    fs::copy(room.path("ca.pem"), room.path("other.pem")).unwrap();
    fs::copy(room.path("ca.key"), room.path("other.key")).unwrap();
    for policy in ["policy.cedar", "other.cedar"] {
        fs::write(room.path(policy), "permit (principal, action, resource);").unwrap();
    }
    fs::write(room.path("jwks.json"), key_set([Key::ec().jwk(None)])).unwrap();
    fs::write(room.path("full.toml"), FULL).unwrap();
    fs::write(room.path("empty.toml"), "").unwrap();
    room
}

fn load(room: &Path, line: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    let place = |text: &str| text.replace('@', room.to_str().unwrap());
    let argv = format!("countermand serve {}", place(line));
    let Command::Serve(args) = Cli::try_parse_from(argv.split_whitespace()).unwrap().command else {
        panic!("{line} is no serve");
    };
    let variables: Environment =
        variables.iter().map(|(name, value)| (name.into(), place(value).into())).collect();
    Config::load(args.into(), variables)
}

fn tcp(text: &str) -> ListenAddress {
    ListenAddress::Tcp(text.parse().unwrap())
}

/// A credential for all enterprises.
fn credential(name: &str, file: PathBuf) -> Credential {
    let definition = Definition { origin: Origin::File(file), impersonate: None };
    let loaded = definition.load().unwrap();
    Credential { name: name.to_owned(), loaded, enterprises: vec![Pattern::all()] }
}

/// In seconds, but for the entries.
fn polling(min: u64, max: u64, wait: u64, cache_entries: usize, age: u64) -> Polling {
    let [min_interval, max_interval, max_wait, cache_max_age] =
        [min, max, wait, age].map(Duration::from_secs);
    Polling { min_interval, max_interval, max_wait, cache_entries, cache_max_age }
}

fn identities<const N: usize>(texts: [&str; N]) -> Vec<Identity> {
    texts.map(|text| workload_identity(text).unwrap()).into()
}

fn algorithms(names: &str) -> Vec<Algorithm> {
    names.split(' ').map(|name| name.parse().unwrap()).collect()
}

/// By a certificate of this name, which vouches for clients as well.
fn tls(room: &Path, name: &str) -> TlsFiles {
    let [certificate, private_key] = ["pem", "key"].map(|end| room.join(name).with_extension(end));
    TlsFiles { client_ca: Some(certificate.clone()), certificate, private_key }
}

#[test]
fn the_parser_knows_its_own_arguments() {
    Cli::command().debug_assert();
}
