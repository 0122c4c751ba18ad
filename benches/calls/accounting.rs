//! What a process has used, by the kernel's own account.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Fault;

/// Reads the accounts of one process.
#[derive(Debug)]
pub(crate) struct Meter {
    cpu: ClockId,
    status: PathBuf,
}

impl Meter {
    /// The accounts of the process `id`.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub(crate) fn of(id: u32) -> Result<Self, Fault> {
        Ok(Self {
            cpu: clock_getcpuclockid(Pid::from_raw(i32::try_from(id)?))?,
            status: PathBuf::from(format!("/proc/{id}/status")),
        })
    }

    /// CPU time, user and system, of all its threads, those that ended too. The clock counts
    /// nanoseconds, where `/proc/PID/stat` counts hundredths of a second (`clock_getcpuclockid(3)`).
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration, Fault> {
        Ok(Duration::from(self.cpu.now()?))
    }

    /// Memory resident now, in bytes (`VmRSS` of `proc_pid_status(5)`).
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn resident(&self) -> Result<u64, Fault> {
        self.field("VmRSS:")
    }

    /// The most memory that was ever resident, in bytes (`VmHWM`).
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn peak_resident(&self) -> Result<u64, Fault> {
        self.field("VmHWM:")
    }

    fn field(&self, name: &str) -> Result<u64, Fault> {
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
