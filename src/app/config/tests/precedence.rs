//! The precedence of flags, variables, the file and defaults.

mod alone;
mod defaults;
mod errors;
mod file;
mod flags;
mod variables;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Directory;
use crate::{
    app::config::{Config, Settings, all_settings},
    caller::Identity,
    config::{ConfigErrors, Flags},
    credentials::{Definition, Machine, Origin, Pattern, settings::CredentialConfig},
    operations::settings::Polling,
    server::{
        identity::{
            forwarded::workload_identity,
            issuer::{Key, key_set},
            jwks::Algorithm,
        },
        settings::{ListenAddress, TlsFiles},
    },
};

use file::FULL;

/// Writes the files that the cases name. `@` in a case means this directory.
fn directory() -> Directory {
    let directory = Directory::new();
    fs::copy(directory.path("key.json"), directory.path("other.json")).unwrap();
    fs::copy(directory.path("ca.pem"), directory.path("other.pem")).unwrap();
    fs::copy(directory.path("ca.key"), directory.path("other.key")).unwrap();
    for policy in ["policy.cedar", "other.cedar"] {
        fs::write(directory.path(policy), "permit (principal, action, resource);").unwrap();
    }
    fs::write(directory.path("jwks.json"), key_set([Key::ec().jwk(None)])).unwrap();
    fs::write(directory.path("valkey-password"), "hunter2\n").unwrap();
    fs::write(directory.path("full.toml"), FULL).unwrap();
    fs::write(directory.path("empty.toml"), "").unwrap();
    directory
}

fn load(directory: &Path, line: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
    let with_directory = |text: &str| text.replace('@', directory.to_str().unwrap());
    let command = Flags::augment(&all_settings(), clap::Command::new("serve"));
    let line = with_directory(&format!("serve {line}"));
    let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
    let flags = Flags::of_matches(&all_settings(), &matches);
    let variables =
        variables.iter().map(|(name, value)| (name.into(), with_directory(value).into())).collect();
    Config::load(flags, variables, Machine::Elsewhere).map(|config| config.settings)
}

fn tcp(text: &str) -> ListenAddress {
    ListenAddress::Tcp(text.parse().unwrap())
}

/// A credential for all enterprises.
fn credential(name: &str, file: PathBuf) -> CredentialConfig {
    let definition = Definition { origin: Origin::File(file), impersonate: None, project: None };
    CredentialConfig { name: name.to_owned(), definition, enterprises: vec![Pattern::all()] }
}

/// The polling settings. All values are in seconds, except the number of entries.
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

/// The files of a certificate with this name, which is also the CA of client certificates.
fn tls(directory: &Path, name: &str) -> TlsFiles {
    let [certificate, private_key] = ["pem", "key"].map(|end| directory.join(name).with_extension(end));
    TlsFiles { client_ca: Some(certificate.clone()), certificate, private_key }
}
