//! Signals: SIGINT and SIGTERM end a command, and SIGHUP reopens the audit log and reloads the configuration.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;

/// The handlers of SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers. The default action of both signals would end the process at once.
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

/// Runs a command until it ends or a signal arrives. Without a handler, the kernel ignores both signals for PID 1.
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

/// Installs the handler of SIGHUP. The default action would end the process.
///
/// # Errors
///
/// The system call failed.
pub(crate) fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
