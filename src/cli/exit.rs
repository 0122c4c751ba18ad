//! What an exit code of `countermand` means.

use std::process::ExitCode;

/// How a subcommand ended. The two high codes are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Ok = 0,
    /// It was not done, for a reason that the output gives.
    Failed = 1,
    /// The command line makes no sense; also the code of the parser itself.
    Usage = 2,
    /// No server answered (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// A configuration, or a file that it names, is wrong (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
