//! The emulator and the proxy in one process, with something to call back.

use std::{io, net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{App, Config, StartError};
use crate::{
    config::{ConfigErrors, Flags},
    credentials::Machine,
    emulator::{Emulator, Refusal, Settings},
};

/// The devices' commands that wait to be called back. The devices are offline for a day.
const SEEDS: [(&str, &str); 4] = [
    ("enterprises/LC01/devices/d1", "LOCK"),
    ("enterprises/LC01/devices/d2", "REBOOT"),
    ("enterprises/LC01/devices/d2", "RESET_PASSWORD"),
    ("enterprises/LC01/devices/d3", "LOCK"),
];

/// An emulator with a proxy in front of it, both on loopback.
pub struct Development {
    /// What stands in for Google.
    pub emulator: Emulator,
    /// The service.
    pub app: App,
    /// Where every call leaves a line.
    pub audit_log: PathBuf,
    /// Holds the emulator's credential file and the audit log, and removes them when dropped.
    pub files: TempDir,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    /// A socket or a file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A configuration that the service refuses.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The service does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The emulator refuses a command of ours.
    #[error("the emulator refuses to seed: {0:?}")]
    Seed(Refusal),
}

impl Development {
    /// Starts both and seeds an enterprise. The proxy listens on `listen`.
    ///
    /// # Errors
    ///
    /// See [`DevelopmentError`].
    pub async fn start(listen: SocketAddr) -> Result<Self, DevelopmentError> {
        let settings = Settings { pick_up: None, ..Settings::default() };
        let emulator = Emulator::start(SocketAddr::from(([127, 0, 0, 1], 0)), settings).await?;
        for (device, kind) in SEEDS {
            issue(&emulator, device, kind)?;
        }
        let files = tempfile::tempdir()?;
        let credentials = files.path().join("credentials.json");
        emulator.write_credentials(&credentials)?;
        let flags = Flags::default()
            .with("--listen", listen.to_string())
            .with("--admin-listen", "off")
            .with("--credentials", credentials)
            .with("--upstream-url", emulator.url());
        // Standard output is for the developer.
        let audit_log = files.path().join("audit.jsonl");
        let variables = [("COUNTERMAND_AUDIT_FILE".into(), audit_log.clone().into())];
        let config = Config::load(flags, variables.into_iter().collect(), Machine::Elsewhere);
        let app = App::start(config.map_err(DevelopmentError::Config)?).await?;
        Ok(Self { emulator, app, audit_log, files })
    }

    /// Issues a WIPE, as a console would, and answers the operation's name.
    ///
    /// # Errors
    ///
    /// The emulator refuses it.
    pub fn wipe(&self) -> Result<String, DevelopmentError> {
        issue(&self.emulator, "enterprises/LC01/devices/d1", "WIPE")
    }
}

fn issue(emulator: &Emulator, device: &str, kind: &str) -> Result<String, DevelopmentError> {
    let mut command = json!({"type": kind, "duration": "86400s"});
    if kind == "RESET_PASSWORD" {
        command["newPassword"] = Value::from("emulated");
    }
    let operation = emulator.control().issue_command(device, command).map_err(DevelopmentError::Seed)?;
    Ok(operation["name"].as_str().unwrap_or_default().to_owned())
}
