//! The Valkey server that shares the quota, for a row of the benchmark.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::process::Command;

use crate::Error;
use crate::files::Files;
use crate::process::Process;
use crate::target::{POLL_INTERVAL, SERVING_TIMEOUT, free_address};

/// A running server, without persistence.
#[derive(Debug)]
pub(crate) struct Valkey {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Valkey {
    /// Starts the server of `program` on the cores of the callers.
    pub(crate) async fn start(program: &Path, files: &Files) -> Result<Self, Error> {
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &address.port().to_string()]);
        let process = Process::start("Valkey", command, files, None)?;
        let mut valkey = Self { process, address };
        let start = Instant::now();
        while let Err(error) = TcpStream::connect(address).await {
            valkey.process.expect_running().await?;
            if start.elapsed() > SERVING_TIMEOUT {
                return Err(valkey.process.explain(error.into()).await);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(valkey)
    }
}
