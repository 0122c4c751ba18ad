//! The processes of a run: started, waited for, and ended on every way out.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child as Process, Command};

use crate::Fault;
use crate::files::Paths;
use crate::pinning::Cores;

/// How long a process of ours may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long a process may take to be gone once its calls fail.
const DEATH_LIMIT: Duration = Duration::from_millis(200);

/// A running process. It is killed when this is dropped, and a role of ours also ends when its
/// standard input closes, should the benchmark itself be killed.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: Process,
    stderr: PathBuf,
}

impl Child {
    /// Starts `command`, on the targets' core if one is given. It sees none of our environment, which
    /// could name a proxy or a setting of its own. What it prints goes to files, as it would in use.
    ///
    /// # Errors
    ///
    /// When the program cannot be run.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        paths: &Paths,
        cores: Option<&Cores>,
    ) -> Result<Self, Fault> {
        let stderr = paths.log(name, "stderr");
        command
            .env_clear()
            .current_dir(paths.directory())
            .stdout(File::create(paths.log(name, "stdout"))?)
            .stderr(File::create(&stderr)?);
        Self::spawn(name, command, stderr, cores)
    }

    /// Starts a role of this executable and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it ends or says nothing in time.
    pub(crate) async fn start_role(
        name: &str,
        arguments: &[&str],
        paths: &Paths,
        cores: Option<&Cores>,
    ) -> Result<(Self, SocketAddr), Fault> {
        let mut command = Command::new(std::env::current_exe()?);
        let stderr = paths.log(name, "stderr");
        command
            .env_clear()
            .args(arguments)
            .arg("--files")
            .arg(paths.directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr)?);
        let mut child = Self::spawn(name, command, stderr, cores)?;
        let stdout = child.process.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        let read = tokio::time::timeout(START_LIMIT, stdout.read_line(&mut line));
        match read.await {
            Err(_) => Err(format!("{name} did not listen within {START_LIMIT:?}").into()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(_)) => match line.trim().parse() {
                Ok(address) => Ok((child, address)),
                Err(_) => Err(child.died().await),
            },
        }
    }

    fn spawn(
        name: &str,
        mut command: Command,
        stderr: PathBuf,
        cores: Option<&Cores>,
    ) -> Result<Self, Fault> {
        command.kill_on_drop(true);
        let spawned = match cores {
            Some(cores) => cores.on_target(|| command.spawn())?,
            None => command.spawn(),
        };
        let process = spawned.map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self { name: name.to_owned(), process, stderr })
    }

    /// The process's number.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub(crate) fn id(&self) -> Result<u32, Fault> {
        self.process.id().ok_or_else(|| format!("{} has ended", self.name).into())
    }

    /// `fault`, or rather the death of this process, should that be behind it.
    pub(crate) async fn explain(&mut self, fault: Fault) -> Fault {
        // A process that dies takes its connections with it before its end can be seen.
        match tokio::time::timeout(DEATH_LIMIT, self.process.wait()).await {
            Ok(_) => self.died().await,
            Err(_) => format!("{}: {fault}", self.name).into(),
        }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// When it does not: how it ended and what it said last.
    pub(crate) async fn expect_alive(&mut self) -> Result<(), Fault> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(_) => Err(self.died().await),
        }
    }

    /// Ends it and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub(crate) async fn end(mut self) -> Result<(), Fault> {
        Ok(self.process.kill().await?)
    }

    async fn died(&mut self) -> Fault {
        let status = match self.process.wait().await {
            Ok(status) => status,
            Err(error) => return error.into(),
        };
        let said = fs::read_to_string(&self.stderr).unwrap_or_else(|error| error.to_string());
        let mut last: Vec<&str> = said.lines().rev().take(10).collect();
        last.reverse();
        format!("{} ended ({status}):\n{}", self.name, last.join("\n")).into()
    }
}

/// Tells the parent where a role listens.
///
/// # Errors
///
/// When the parent is gone.
pub(crate) fn announce(listener: &TcpListener) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    Ok(stdout.flush()?)
}

/// Ends this role when the parent, which holds the other end of its standard input, is gone.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        // Whatever ends the reading, the parent is not there any more.
        let _ = io::stdin().read(&mut [0]);
        #[expect(
            clippy::disallowed_methods,
            reason = "the main thread serves for good, and nobody is left to tell"
        )]
        std::process::exit(0);
    });
}
