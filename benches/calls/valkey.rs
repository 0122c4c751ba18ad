//! The Valkey server that shares the quota, for a row of the benchmark.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::Error;
use crate::files::Files;
use crate::process::Process;
use crate::target::{POLL_INTERVAL, SERVING_TIMEOUT, free_address};

/// The maximum length of the text of `INFO stats`.
const MAX_STATS: usize = 64 * 1024;

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
        while let Err(error) = valkey.commands().await {
            valkey.process.expect_running().await?;
            if start.elapsed() > SERVING_TIMEOUT {
                return Err(valkey.process.explain(error).await);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(valkey)
    }

    /// The number of commands so far (`total_commands_processed` of `INFO stats`).
    pub(crate) async fn commands(&self) -> Result<u64, Error> {
        const FIELD: &str = "total_commands_processed:";
        let mut connection = TcpStream::connect(self.address).await?;
        connection.write_all(b"INFO stats\r\n").await?;
        let mut stats = String::new();
        let mut buffer = [0; 4096];
        while stats.len() < MAX_STATS {
            let length = connection.read(&mut buffer).await?;
            stats.push_str(str::from_utf8(&buffer[..length])?);
            let found = stats.lines().find_map(|line| line.strip_prefix(FIELD));
            // The last line may be incomplete.
            if let Some(found) = found.filter(|_| stats.ends_with('\n')) {
                return Ok(found.parse()?);
            }
            if length == 0 {
                break;
            }
        }
        Err(format!("Valkey has no {FIELD} in its statistics").into())
    }
}
