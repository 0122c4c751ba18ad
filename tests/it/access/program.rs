//! A `countermand serve` process, and a configuration with TLS, tokens, a policy and an audit log.

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

/// The first contents of the configured files.
pub(crate) struct ConfigFiles<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) clients: &'a Authority,
    pub(crate) keys: &'a str,
    pub(crate) policy: &'a str,
}

/// A directory with a configuration `c.toml`, and every file that it names.
pub(crate) struct ConfigDir(TempDir);

impl ConfigDir {
    /// The upstream is also the token endpoint.
    pub(crate) fn new(upstream: &Upstream, files: &ConfigFiles<'_>) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        let ConfigFiles { pair, clients, keys, policy } = files;
        pair.write(&dir.file("tls.crt"), &dir.file("tls.key"));
        replace(&dir.file("clients.pem"), &clients.pem());
        replace(&dir.file("jwks.json"), keys);
        replace(&dir.file("policy.cedar"), policy);
        replace(&dir.file("key.json"), &account::key_file(&upstream.token_url()));
        replace(
            &dir.file("c.toml"),
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
        dir
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts the service, and waits until it has a token.
    pub(crate) async fn serve(self) -> Program {
        let process =
            Process::start(countermand(&["serve", "--config", "c.toml"]).current_dir(self.0.path()));
        let address = process.stderr.see(|log| {
            let (_, rest) = log.split_once(": listening address=")?;
            rest.lines().next()?.parse().ok()
        });
        let address = address.await;
        process.stderr.has(": serving").await;
        Program { process, address, dir: self }
    }
}

/// The running program.
pub(crate) struct Program {
    pub(crate) process: Process,
    /// The address of the TLS listener.
    pub(crate) address: SocketAddr,
    pub(crate) dir: ConfigDir,
}

impl Program {
    /// A connection to the unix socket.
    pub(crate) async fn wire_by_unix(&self) -> Wire {
        Wire::over(UnixStream::connect(self.dir.file("s.sock")).await.unwrap()).await
    }
}
