//! The command line: a file a subcommand, and in `exit` what the exit codes mean.

mod address;
mod calls;
mod cancel;
mod check;
mod connect;
#[cfg(feature = "emulator")]
mod dev;
#[cfg(feature = "emulator")]
mod emulate;
mod exit;
mod failure;
mod get;
mod json;
mod list;
mod operation;
mod output;
mod probe;
mod progress;
mod serve;
mod signals;
mod table;
mod wait;
mod waiting;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use signals::until_signal;

const EXAMPLES: &str = "\
Examples:
  countermand serve --credentials key.json
  countermand cancel enterprises/LC01/devices/d1/operations/17
  countermand help serve

Exit codes: 0 success, 1 failure, 2 usage, 69 the server cannot be reached, 78 the configuration is wrong;
wait and cancel --wait have more, see their help";

/// Calls back Android Management API commands over gRPC
///
/// Countermand implements google.longrunning.Operations and carries each call to the Android Management
/// API with a credential that only it holds.
#[derive(Debug, Parser)]
#[command(name = "countermand", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    #[cfg(feature = "emulator")]
    Dev(dev::DevArgs),
    Check(check::CheckArgs),
    #[cfg(feature = "emulator")]
    Emulate(emulate::EmulateArgs),
    Cancel(cancel::CancelArgs),
    Get(get::GetArgs),
    List(list::ListArgs),
    Wait(wait::WaitArgs),
    Probe(probe::ProbeArgs),
}

/// Parses the process's command line, does what it asks for, and says how that went.
///
/// A command line that cannot be parsed ends the process here, with the parser's message and the code 2.
pub async fn run() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Serve(args) => serve::run(args).await,
        #[cfg(feature = "emulator")]
        Command::Dev(args) => dev::run(args).await,
        Command::Check(args) => until_signal(check::run(args)).await,
        #[cfg(feature = "emulator")]
        Command::Emulate(args) => emulate::run(args).await,
        Command::Cancel(args) => until_signal(cancel::run(args)).await,
        Command::Get(args) => until_signal(get::run(args)).await,
        Command::List(args) => until_signal(list::run(args)).await,
        Command::Wait(args) => until_signal(wait::run(args)).await,
        Command::Probe(args) => until_signal(probe::run(args)).await,
    };
    exit.into()
}

// Without the emulator, its variables are still known to `serve`, but no subcommand declares them.
#[cfg(all(test, feature = "emulator"))]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::Cli;
    use crate::config::OF_OTHER_COMMANDS;

    #[test]
    fn the_variables_of_the_commands_are_those_that_serve_takes_for_no_faults() {
        let command = Cli::command();
        let arguments = command.get_subcommands().flat_map(|command| command.get_arguments());
        let read: BTreeSet<_> = arguments
            .filter_map(|argument| argument.get_env().map(|name| name.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(read, OF_OTHER_COMMANDS.map(str::to_owned).into());
    }
}
