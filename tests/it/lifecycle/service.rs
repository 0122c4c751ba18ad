//! `countermand serve` as a process, in front of [`Google`].

use std::{net::SocketAddr, path::PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    lifecycle::{google::Google, key::Key},
    support::{
        http_page,
        process::{Process, countermand, eventually},
    },
};

/// The first words of the command line.
pub(crate) const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) key: Key,
    dir: TempDir,
}

impl Service {
    /// Starts a service, and waits until it listens.
    pub(crate) async fn start(google: &Google) -> Self {
        Self::start_with(google, |_| {}).await
    }

    /// Starts a service after `adjust` has changed its command line or environment.
    pub(crate) async fn start_with(google: &Google, adjust: impl FnOnce(&mut Command)) -> Self {
        Self::start_as(google, countermand(&SERVE), adjust).await
    }

    /// Starts a service with a command line that begins with [`SERVE`].
    pub(crate) async fn start_as(
        google: &Google,
        mut command: Command,
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::generate();
        std::fs::write(dir.path().join("key.json"), key.file(&google.token_url())).unwrap();
        command.current_dir(&dir).args(["--upstream-url", &google.url]);
        command.env("COUNTERMAND_CREDENTIALS", "key.json");
        adjust(&mut command);
        let process = Process::start(&mut command);
        let address = process.stderr.see(|log| listening(log, "listening")).await;
        let admin = process.stderr.see(|log| listening(log, "listening on the admin port")).await;
        Self { process, address, admin, key, dir }
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir.path().join("key.json")
    }

    /// Waits for `/readyz` to be 200.
    pub(crate) async fn ready(&self) {
        eventually("ready", async || (self.get("/readyz").await.0 == 200).then_some(())).await;
    }

    /// Waits for `/readyz` to be 503 with all of `parts` in its body.
    pub(crate) async fn not_ready(&self, parts: &[&str]) {
        eventually(&format!("not ready for {parts:?}"), async || {
            let (status, body) = self.get("/readyz").await;
            (status == 503 && parts.iter().all(|part| body.contains(part))).then_some(())
        })
        .await;
    }

    /// The status and the body of a page of the admin port.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.get_as(path, "*/*").await
    }

    /// The status and the body of a page for this `accept` header.
    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> (u16, String) {
        let (status, _, body) = self.request("GET", path, accept).await;
        (status, body)
    }

    /// The status, the head and the body of a response of the admin port.
    pub(crate) async fn request(&self, method: &str, path: &str, accept: &str) -> (u16, String, String) {
        http_page::request(self.admin, method, path, accept).await
    }
}

/// The first TCP address in log lines with this message, in text or JSON.
pub(super) fn listening(log: &str, message: &str) -> Option<SocketAddr> {
    let (text, json) = (format!(": {message} address="), format!(r#""message":"{message}","address":""#));
    log.lines().find_map(|line| {
        let (_, address) = line.split_once(&text).or_else(|| line.split_once(&json))?;
        address.split(['"', ' ']).next()?.parse().ok()
    })
}
