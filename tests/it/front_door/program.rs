//! The program itself, by a configuration file in which all of the front door is set up.

use std::{net::SocketAddr, path::PathBuf};

use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::support::{
    account,
    files::replace,
    grpc::Wire,
    issuer::{AUDIENCE, ISSUER},
    process::{Process, countermand},
    tls::{Authority, Pair},
    upstream::Upstream,
};

/// What its files hold at first.
pub(crate) struct Files<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) clients: &'a Authority,
    pub(crate) keys: &'a str,
    pub(crate) policy: &'a str,
}

/// A directory with a configuration `c.toml`, and every file that it names.
pub(crate) struct Room(TempDir);

impl Room {
    /// In front of `upstream`, which serves the tokens too.
    pub(crate) fn new(upstream: &Upstream, files: &Files<'_>) -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        let Files { pair, clients, keys, policy } = files;
        pair.write(&room.file("tls.crt"), &room.file("tls.key"));
        replace(&room.file("clients.pem"), &clients.pem());
        replace(&room.file("jwks.json"), keys);
        replace(&room.file("policy.cedar"), policy);
        replace(&room.file("key.json"), &account::key_file(&upstream.token_url()));
        replace(
            &room.file("c.toml"),
            &format!(
                r#"
                [server]
                listen = ["127.0.0.1:0", "unix:s.sock"]
                [server.tls]
                certificate = "tls.crt"
                private_key = "tls.key"
                client_ca = "clients.pem"
                [admin]
                listen = "off"
                [upstream]
                url = "{}"
                [[credentials]]
                name = "emea"
                file = "key.json"
                [callers]
                jwt = {{ issuer = "{ISSUER}", audience = "{AUDIENCE}", jwks = "jwks.json" }}
                [policy]
                file = "policy.cedar"
                [audit]
                file = "audit.jsonl"
                "#,
                upstream.url(),
            ),
        );
        room
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts it, and waits until it has a token.
    pub(crate) async fn serve(self) -> Program {
        let process =
            Process::start(countermand(&["serve", "--config", "c.toml"]).current_dir(self.0.path()));
        let address = process.stderr.see(|log| {
            let (_, rest) = log.split_once(": listening address=")?;
            rest.lines().next()?.parse().ok()
        });
        let address = address.await;
        process.stderr.has(": serving").await;
        Program { process, address, room: self }
    }
}

/// The running program.
pub(crate) struct Program {
    pub(crate) process: Process,
    /// Where it speaks TLS.
    pub(crate) address: SocketAddr,
    pub(crate) room: Room,
}

impl Program {
    /// A connection by the unix socket.
    pub(crate) async fn wire_by_unix(&self) -> Wire {
        Wire::over(UnixStream::connect(self.room.file("s.sock")).await.unwrap()).await
    }
}
