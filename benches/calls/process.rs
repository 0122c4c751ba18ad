//! The processes of a run, and their measurement. Every process ends with the run.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Error;
use crate::files::Files;

/// The timeout until a role of the benchmark listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout until a process ends after its connections broke.
const EXIT_TIMEOUT: Duration = Duration::from_millis(200);

/// A running process. It is killed when this value is dropped. A role of the benchmark also ends when its standard
/// input closes, because the benchmark itself may be killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, on the targets' core if there is one. The environment is empty, so that it sets no proxy and
    /// no setting. The output goes to files, as in production.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        files: &Files,
        cores: Option<&Cores>,
    ) -> Result<Self, Error> {
        let stderr = files.directory.join(format!("{name}.stderr"));
        command
            .env_clear()
            .current_dir(&files.directory)
            .stdout(File::create(files.directory.join(format!("{name}.stdout")))?)
            .stderr(File::create(&stderr)?);
        Self::spawn(name, command, stderr, cores)
    }

    /// Starts a role of this executable, and waits until it listens.
    pub(crate) async fn start_role(
        name: &str,
        arguments: &[&str],
        files: &Files,
        cores: Option<&Cores>,
    ) -> Result<(Self, SocketAddr), Error> {
        let mut command = Command::new(std::env::current_exe()?);
        let stderr = files.directory.join(format!("{name}.stderr"));
        command
            .env_clear()
            .current_dir(&files.directory)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr)?);
        let mut process = Self::spawn(name, command, stderr, cores)?;
        let stdout = process.child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        let read = tokio::time::timeout(START_TIMEOUT, stdout.read_line(&mut line));
        match read.await {
            Err(_) => Err(format!("{name} did not listen within {START_TIMEOUT:?}").into()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(_)) => match line.trim().parse() {
                Ok(address) => Ok((process, address)),
                Err(_) => Err(process.exit_error().await),
            },
        }
    }

    fn spawn(
        name: &str,
        mut command: Command,
        stderr: PathBuf,
        cores: Option<&Cores>,
    ) -> Result<Self, Error> {
        command.kill_on_drop(true);
        let spawned = match cores {
            Some(cores) => cores.on_target(|| command.spawn())?,
            None => command.spawn(),
        };
        let child = spawned.map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self { name: name.to_owned(), child, stderr })
    }

    /// The process id.
    pub(crate) fn id(&self) -> Result<u32, Error> {
        self.child.id().ok_or_else(|| format!("{} has ended", self.name).into())
    }

    /// Returns the exit of this process as the error if it has ended, otherwise `error`.
    pub(crate) async fn explain(&mut self, error: Error) -> Error {
        // The connections of a process break before its exit is visible.
        match tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(_) => self.exit_error().await,
            Err(_) => format!("{}: {error}", self.name).into(),
        }
    }

    /// Checks that the process still runs.
    pub(crate) async fn expect_running(&mut self) -> Result<(), Error> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(_) => Err(self.exit_error().await),
        }
    }

    async fn exit_error(&mut self) -> Error {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return error.into(),
        };
        let output = fs::read_to_string(&self.stderr).unwrap_or_else(|error| error.to_string());
        let mut last: Vec<&str> = output.lines().rev().take(10).collect();
        last.reverse();
        format!("{} ended ({status}):\n{}", self.name, last.join("\n")).into()
    }
}

/// Prints the address of the listener to the parent process.
pub(crate) fn announce(listener: &TcpListener) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    Ok(stdout.flush()?)
}

/// Ends this role when its parent ends, which closes the standard input.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        // The read ends only when the parent has ended.
        let _ = io::stdin().read(&mut [0]);
        #[expect(
            clippy::disallowed_methods,
            reason = "the main thread serves forever, and no output is pending"
        )]
        std::process::exit(0);
    });
}

/// Reads the CPU time and the memory of one process, as the kernel counts them.
#[derive(Debug)]
pub(crate) struct Meter {
    cpu: ClockId,
    status: PathBuf,
}

impl Meter {
    /// Measures the process `id`.
    pub(crate) fn of(id: u32) -> Result<Self, Error> {
        Ok(Self {
            cpu: clock_getcpuclockid(Pid::from_raw(i32::try_from(id)?))?,
            status: PathBuf::from(format!("/proc/{id}/status")),
        })
    }

    /// The user and system CPU time of all threads, including ended threads. The clock counts nanoseconds
    /// (`clock_getcpuclockid(3)`), and `/proc/PID/stat` counts hundredths of a second.
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        Ok(Duration::from(self.cpu.now()?))
    }

    /// The resident memory, in bytes (`VmRSS` of `proc_pid_status(5)`).
    pub(crate) fn resident(&self) -> Result<u64, Error> {
        self.field("VmRSS:")
    }

    /// The peak of the resident memory, in bytes (`VmHWM`).
    pub(crate) fn peak_resident(&self) -> Result<u64, Error> {
        self.field("VmHWM:")
    }

    fn field(&self, name: &str) -> Result<u64, Error> {
        let status = fs::read_to_string(&self.status)?;
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"))
            .ok_or_else(|| format!("{} has no {name}", self.status.display()))?
            .trim()
            .parse()?;
        Ok(kibibytes * 1024)
    }
}

/// The available cores: one for the targets, and the others for all other processes.
#[derive(Debug)]
pub(crate) struct Cores {
    /// The number of the core that the targets run on.
    pub(crate) target: usize,
    target_set: CpuSet,
    others: CpuSet,
}

/// The calling thread. Processes that it starts later inherit its affinity.
const THIS_THREAD: Pid = Pid::from_raw(0);

impl Cores {
    /// Reserves the last core for targets, and moves the calling thread to the other cores. `None` with fewer than
    /// two cores.
    pub(crate) fn split() -> Result<Option<Self>, Error> {
        let mut others = sched_getaffinity(THIS_THREAD)?;
        let mut available = Vec::new();
        for core in 0..CpuSet::count() {
            if others.is_set(core)? {
                available.push(core);
            }
        }
        let &[_, .., target] = available.as_slice() else {
            return Ok(None);
        };
        others.unset(target)?;
        let mut target_set = CpuSet::new();
        target_set.set(target)?;
        sched_setaffinity(THIS_THREAD, &others)?;
        Ok(Some(Self { target, target_set, others }))
    }

    /// Runs `start` on the targets' core, which the processes that it starts inherit.
    pub(crate) fn on_target<T>(&self, start: impl FnOnce() -> T) -> Result<T, Error> {
        sched_setaffinity(THIS_THREAD, &self.target_set)?;
        let started = start();
        sched_setaffinity(THIS_THREAD, &self.others)?;
        Ok(started)
    }
}
