//! SIGINT and SIGTERM, which end a command, and SIGHUP, which reopens the audit log.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;
use crate::audit::Audit;

/// SIGINT and SIGTERM, received from `install` on.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Replaces the default action, which ends the process at once.
    ///
    /// # Errors
    ///
    /// The system call failed.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs a command that SIGTERM and SIGINT end at once. Without a handler, the kernel ignores both signals for PID 1.
pub(super) async fn until_signal(command: impl Future<Output = Exit>) -> Exit {
    let Ok(Signals { mut interrupt, mut terminate }) = Signals::install() else { return command.await };
    tokio::select! {
        // The command comes first, because `wait` handles SIGINT itself.
        biased;
        exit = command => exit,
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
    }
}

/// SIGHUP, which log rotation sends after it renamed a file. The signal no longer ends the process.
///
/// # Errors
///
/// The system call failed.
pub(crate) fn rotation() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reopens the audit log after every `rotation`. Never returns.
pub(crate) async fn reopen(audit: Audit, mut rotation: Signal) {
    while rotation.recv().await.is_some() {
        audit.reopen();
    }
}
