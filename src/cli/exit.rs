//! What an exit code of `countermand` means.

use std::process::ExitCode;

/// How a subcommand ended. The codes 69 and 78 are those of `sysexits.h`, 130 and 143 those of shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Ok = 0,
    /// It was not done, for a reason that the output gives.
    Failed = 1,
    /// The command line makes no sense; also the code of the parser itself.
    Usage = 2,
    /// The operation that was waited for was cancelled.
    Cancelled = 3,
    /// The operation that was waited for ended with an error that is not its cancellation.
    OperationFailed = 4,
    /// The operation was not done when the time to wait was over.
    TimedOut = 5,
    /// The operation was carried out before its cancel reached the device.
    TooLate = 6,
    /// No server answered (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// A configuration, or a file that it names, is wrong (`EX_CONFIG`).
    Config = 78,
    /// The user stopped waiting with Ctrl-C: 128 and the number of SIGINT.
    Interrupted = 130,
    /// SIGTERM ended the command: 128 and the number of SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
