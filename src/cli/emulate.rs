//! `countermand emulate`: the emulator of the Android Management API alone.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use clap::{Args, Command, error::ErrorKind};
use countermand_emulator::{Emulator, Kind, Settings};
use tokio::net::lookup_host;

use super::{exit::Exit, output, signals::Signals};
use crate::loopback::is_loopback;

/// Emulate the Android Management API's operations and the endpoints that issue tokens, over plain HTTP
#[derive(Args, Clone, Debug)]
pub(crate) struct EmulateArgs {
    /// The address to listen on: HOST:PORT, port 0 for any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8086")]
    #[arg(env = "COUNTERMAND_EMULATOR_LISTEN")]
    listen: String,
    /// Allow an address beyond loopback, where other machines can reach the emulator unencrypted
    #[arg(long)]
    allow_beyond_loopback: bool,
    /// Write credentials that the emulator trusts to this file, readable only by its owner
    #[arg(long, value_name = "FILE")]
    #[arg(env = "COUNTERMAND_EMULATOR_WRITE_CREDENTIALS")]
    write_credentials: Option<PathBuf>,
    /// The kind of credentials to write
    #[arg(long, value_name = "KIND", default_value = "service-account")]
    credentials_kind: Kind,
    #[command(flatten)]
    settings: Settings,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: EmulateArgs) -> Exit {
    let EmulateArgs { settings, listen, allow_beyond_loopback, write_credentials, credentials_kind } = args;
    if let Err(error) = settings.faults.validate() {
        return usage(&error.to_string());
    }
    let address = match listen_address(&listen, allow_beyond_loopback).await {
        Ok(address) => address,
        Err(error) => return usage(&format!("invalid value '{listen}' for '--listen <ADDR>': {error}")),
    };
    match emulate(address, settings, write_credentials.map(|path| (credentials_kind, path))).await {
        Ok(()) => Exit::Ok,
        Err(error) => {
            output::complain(&error);
            Exit::Failed
        }
    }
}

async fn listen_address(listen: &str, allow_beyond_loopback: bool) -> Result<SocketAddr, String> {
    let addresses = lookup_host(listen).await.map_err(|error| format!("{error}: expected HOST:PORT"))?;
    let addresses: Vec<_> = addresses.collect();
    match addresses.iter().find(|address| !is_loopback(**address)) {
        Some(address) if !allow_beyond_loopback => Err(format!(
            "{} is not a loopback address, and the emulator speaks unencrypted HTTP: add --allow-beyond-loopback \
             to let other machines reach it",
            address.ip()
        )),
        _ => addresses.first().copied().ok_or_else(|| "the name has no address".to_owned()),
    }
}

/// Prints an error of the command line that clap does not detect, in clap's format.
fn usage(error: &str) -> Exit {
    let mut command = EmulateArgs::augment_args(Command::new("countermand emulate"));
    // Standard error may be closed. The exit code remains.
    let _ = command.error(ErrorKind::ValueValidation, error).print();
    Exit::Usage
}

async fn emulate(
    address: SocketAddr,
    settings: Settings,
    credentials: Option<(Kind, PathBuf)>,
) -> Result<(), String> {
    // Installed before the ready line, so that no signal after that line is lost.
    let mut signals = Signals::install().map_err(|error| format!("cannot receive signals: {error}"))?;
    let emulator = Emulator::start(address, settings)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    if let Some((kind, path)) = credentials {
        let file = emulator.credential_file(kind);
        file.write(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    writeln!(io::stdout(), "emulator: {}", emulator.url())
        .map_err(|error| format!("cannot write to standard output: {error}"))?;
    signals.next().await;
    emulator.shutdown().await.map_err(|error| format!("the emulator failed: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: EmulateArgs,
    }

    fn parse(words: &[&str]) -> Result<EmulateArgs, clap::Error> {
        let line = std::iter::once(&"emulate").chain(words);
        CommandLine::try_parse_from(line).map(|line| line.args)
    }

    #[test]
    fn without_flags_the_emulator_listens_on_loopback_with_the_default_settings() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.settings, Settings::default());
        assert_eq!(args.listen, "127.0.0.1:8086");
        assert!(!args.allow_beyond_loopback);
        assert_eq!(args.credentials_kind, Kind::ServiceAccount);
    }

    #[test]
    fn an_unknown_kind_of_credentials_is_rejected() {
        let error = parse(&["--credentials-kind", "service_account"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }

    #[tokio::test]
    async fn an_invalid_command_line_has_the_exit_code_2() {
        for words in [
            &["--listen", "0.0.0.0:0"][..],
            &["--listen", "[::]:0"],
            &["--listen", "nowhere"],
            &["--reset-rate", "0.6", "--unavailable-rate", "0.6"],
        ] {
            assert_eq!(run(parse(words).unwrap()).await, Exit::Usage, "{words:?}");
        }
    }

    #[tokio::test]
    async fn loopback_addresses_of_both_families_are_accepted() {
        for address in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
            // The emulator starts, and fails because the credential file cannot be written.
            let args = parse(&["--listen", address, "--write-credentials", "/nowhere/key.json"]).unwrap();
            assert_eq!(run(args).await, Exit::Failed, "{address}");
        }
    }
}
