//! The exit codes of `countermand`.

use std::process::ExitCode;

/// The outcome of a subcommand. 69 and 78 are codes of `sysexits.h`; 130 and 143 are 128 and the signal's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    /// An error that the output describes.
    Failed = 1,
    /// An invalid command line, the code of clap too.
    Usage = 2,
    /// The operation was cancelled.
    Cancelled = 3,
    /// The operation ended with another error.
    OperationFailed = 4,
    /// The operation was not done before the timeout.
    TimedOut = 5,
    /// The device ran the command before the cancel.
    TooLate = 6,
    /// The server cannot be reached (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// An invalid configuration, or an unusable file (`EX_CONFIG`).
    Config = 78,
    /// SIGINT ended the command.
    Interrupted = 130,
    /// SIGTERM ended the command.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
