//! The command line: one file per subcommand.

mod cancel;
mod check;
mod client;
#[cfg(feature = "emulator")]
mod dev;
#[cfg(feature = "emulator")]
mod emulate;
mod error;
mod exit;
mod get;
mod list;
mod operation;
mod output;
mod probe;
mod recall;
mod retry;
mod serve;
mod signals;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use signals::until_signal;

const EXAMPLES: &str = "\
Examples:
  countermand serve --credentials key.json
  countermand cancel enterprises/LC01/devices/d1/operations/17
  countermand help serve

Exit codes: 0 success, 1 failure, 2 usage, 69 the server cannot be reached, 78 invalid configuration,
130 stopped by Ctrl-C, 143 ended by SIGTERM. wait, cancel --wait and recall have more: see their help.
A command that serves drains and exits with 0 on both signals.";

/// Calls back Android Management API commands over gRPC
///
/// Countermand implements google.longrunning.Operations and calls the Android Management API with
/// credentials that its callers never see.
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
    Recall(recall::RecallArgs),
    Probe(probe::ProbeArgs),
}

/// Parses the command line, runs the command and returns its exit code. clap ends the process with code 2 if the
/// command line is invalid.
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
        Command::Recall(args) => recall::run(args).await,
        Command::Probe(args) => until_signal(probe::run(args)).await,
    };
    exit.into()
}

// Without the feature `emulator`, `serve` still knows the variables of `emulate`, but no subcommand declares them.
#[cfg(all(test, feature = "emulator"))]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::Cli;
    use crate::app::config::OTHER_COMMANDS_VARIABLES;

    #[test]
    fn clap_accepts_the_command_line() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_knows_the_variables_of_the_other_commands() {
        let command = Cli::command();
        let arguments = command.get_subcommands().flat_map(|command| command.get_arguments());
        let read: BTreeSet<_> = arguments
            .filter_map(|argument| argument.get_env().map(|name| name.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(read, OTHER_COMMANDS_VARIABLES.map(str::to_owned).into());
    }
}
