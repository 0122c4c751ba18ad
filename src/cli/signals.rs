//! The signals that end a process, and the one that does not.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;
use crate::audit::Audit;

/// SIGINT and SIGTERM, from the moment of installation on.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from the operating system's default, which is to end at once.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs a command that SIGTERM and SIGINT end at once, also as PID 1, to which the system's default does not apply.
pub(super) async fn until_signal(command: impl Future<Output = Exit>) -> Exit {
    let Ok(Signals { mut interrupt, mut terminate }) = Signals::install() else { return command.await };
    tokio::select! {
        // The command is first: one that waits says by itself what SIGINT interrupted.
        biased;
        exit = command => exit,
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
    }
}

/// SIGHUP, by which those who rotate logs say that a file was renamed. It no longer ends the process.
///
/// # Errors
///
/// The system refuses.
pub(crate) fn rotation() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reopens the audit log at every `rotation`. Never returns.
pub(crate) async fn reopen(audit: Audit, mut rotation: Signal) {
    while rotation.recv().await.is_some() {
        audit.reopen();
    }
}
