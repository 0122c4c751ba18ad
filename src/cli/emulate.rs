//! `countermand emulate`: the emulator of the Android Management API alone.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::net::lookup_host;
use tokio::signal::unix::{SignalKind, signal};

use crate::emulator::{Condition, Emulator, Endpoints, FaultRates, Kind, Quota, Settings};
use crate::loopback::is_loopback;

/// The exit code for a fault of the command line (EX_CONFIG).
const EX_CONFIG: u8 = 78;

/// Emulate the Android Management API's operations and the endpoints that give tokens, over plain HTTP
#[derive(Args, Clone, Debug)]
pub(crate) struct EmulateArgs {
    /// Where to listen: HOST:PORT, port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8086")]
    #[arg(env = "COUNTERMAND_EMULATOR_LISTEN")]
    listen: String,
    /// Write credentials that it trusts to this file, readable by you alone
    #[arg(long, value_name = "FILE")]
    #[arg(env = "COUNTERMAND_EMULATOR_WRITE_CREDENTIALS")]
    write_credentials: Option<PathBuf>,
    /// The kind of credentials to write: service-account, authorized-user, external-account-file,
    /// external-account-url, external-account-impersonated or impersonated-service-account
    #[arg(long, value_name = "KIND", default_value = "service-account")]
    credentials_kind: Kind,
    /// Listen on other than loopback addresses, where other machines can reach it unencrypted
    #[arg(long)]
    allow_beyond_loopback: bool,
    /// After how long the device runs a command: a duration, or "never"
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = pick_up)]
    #[arg(env = "COUNTERMAND_EMULATOR_PICK_UP")]
    pick_up: PickUp,
    /// How long a command is valid that does not say so itself
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    command_duration: Duration,
    /// After how long a cancel takes effect
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    cancel_delay: Duration,
    /// How long each API call takes at least
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    latency: Duration,
    /// The share of API calls that get a 503, from 0.0 to 1.0
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    unavailable_rate: f64,
    /// The share of API calls that get a 429 though the quota is not spent
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    exhausted_rate: f64,
    /// The share of API calls that have their connection reset
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    reset_rate: f64,
    /// How many API calls a quota window allows: a number, or "off"
    #[arg(long, value_name = "CALLS", default_value = "1000", value_parser = quota)]
    #[arg(env = "COUNTERMAND_EMULATOR_QUOTA")]
    quota: QuotaSize,
    /// How long the quota window is
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = duration)]
    quota_window: Duration,
    /// How many operations a page has by default
    #[arg(long, value_name = "N", default_value_t = Settings::default().page_size)]
    page_size: usize,
    /// How many operations a page has at most
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_page_size)]
    max_page_size: usize,
    /// How long an access token is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    token_lifetime: Duration,
    /// How many requests one HTTP/2 connection may have open
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_concurrent_streams)]
    max_concurrent_streams: u32,
    /// How the token endpoint answers: healthy, refusing, unavailable, hanging, slow:TIME, failing,
    /// without-token, lifetime-absent, lifetime-negative, lifetime-absurd, html, reset or truncated
    #[arg(long, value_name = "FAULT", default_value = "healthy")]
    token_fault: Condition,
    /// How the token exchange (STS) answers, likewise
    #[arg(long, value_name = "FAULT", default_value = "healthy")]
    sts_fault: Condition,
    /// How the source of subject tokens answers, likewise
    #[arg(long, value_name = "FAULT", default_value = "healthy")]
    subject_token_fault: Condition,
    /// How the metadata server answers, likewise
    #[arg(long, value_name = "FAULT", default_value = "healthy")]
    metadata_fault: Condition,
    /// How IAM Credentials answers, likewise
    #[arg(long, value_name = "FAULT", default_value = "healthy")]
    iam_fault: Condition,
    /// A device that exists (repeatable); without any, each exists from its first command on
    #[arg(long = "device", value_name = "NAME")]
    devices: Vec<String>,
}

/// When a device runs its commands; `None` for never.
#[derive(Clone, Copy, Debug)]
struct PickUp(Option<Duration>);

/// How many calls the quota allows; `None` for any number.
#[derive(Clone, Copy, Debug)]
struct QuotaSize(Option<usize>);

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

fn pick_up(text: &str) -> Result<PickUp, humantime::DurationError> {
    if text == "never" { Ok(PickUp(None)) } else { duration(text).map(|time| PickUp(Some(time))) }
}

fn quota(text: &str) -> Result<QuotaSize, std::num::ParseIntError> {
    if text == "off" { Ok(QuotaSize(None)) } else { text.parse().map(|n| QuotaSize(Some(n))) }
}

/// Runs until SIGINT or SIGTERM, then ends at once with 0. Ends with 78 when the command line is at
/// fault, with 1 when the machine is.
pub(crate) async fn run(args: EmulateArgs) -> ExitCode {
    let EmulateArgs { listen, write_credentials, credentials_kind, allow_beyond_loopback, .. } = &args;
    let credentials = write_credentials.clone().map(|path| (*credentials_kind, path));
    let settings = settings(&args);
    let mut faults: Vec<String> = settings.invalid().iter().map(ToString::to_string).collect();
    let addresses: Vec<_> = match lookup_host(listen).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            faults.push(format!("--listen {listen}: {error}: expected HOST:PORT"));
            Vec::new()
        }
    };
    let beyond = addresses.iter().find(|address| !is_loopback(**address));
    if let (Some(address), false) = (beyond, allow_beyond_loopback) {
        faults.push(format!(
            "--listen {listen}: {} is not a loopback address, and the emulator speaks unencrypted \
             HTTP: add --allow-beyond-loopback to let other machines reach it",
            address.ip()
        ));
    }
    let (true, Some(address)) = (faults.is_empty(), addresses.first()) else {
        faults.iter().for_each(complain);
        return ExitCode::from(EX_CONFIG);
    };
    match emulate(*address, settings, credentials).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

async fn emulate(
    address: std::net::SocketAddr,
    settings: Settings,
    credentials: Option<(Kind, PathBuf)>,
) -> Result<(), String> {
    let no_signals = |error: io::Error| format!("signals cannot be received: {error}");
    // From before the line that says it is ready, so that none is missed after it.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let emulator = Emulator::start(address, settings)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    if let Some((kind, path)) = credentials {
        emulator
            .credential_file(kind)
            .write(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    writeln!(io::stdout(), "emulator: {}", emulator.url())
        .map_err(|error| format!("cannot write to standard output: {error}"))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The settings that the command line asks for. Each argument is named, so that a new one cannot be
/// forgotten.
fn settings(args: &EmulateArgs) -> Settings {
    let EmulateArgs {
        listen: _,
        write_credentials: _,
        credentials_kind: _,
        allow_beyond_loopback: _,
        pick_up,
        command_duration,
        cancel_delay,
        latency,
        unavailable_rate,
        exhausted_rate,
        reset_rate,
        quota,
        quota_window,
        page_size,
        max_page_size,
        token_lifetime,
        max_concurrent_streams,
        token_fault,
        sts_fault,
        subject_token_fault,
        metadata_fault,
        iam_fault,
        devices,
    } = args;
    Settings {
        pick_up: pick_up.0,
        command_duration: *command_duration,
        cancel_delay: *cancel_delay,
        latency: *latency,
        faults: FaultRates { unavailable: *unavailable_rate, exhausted: *exhausted_rate, reset: *reset_rate },
        quota: quota.0.map(|queries| Quota { queries, window: *quota_window }),
        page_size: *page_size,
        max_page_size: *max_page_size,
        token_lifetime: *token_lifetime,
        max_concurrent_streams: *max_concurrent_streams,
        devices: (!devices.is_empty()).then(|| devices.clone()),
        endpoints: Endpoints {
            token: *token_fault,
            sts: *sts_fault,
            subject_token: *subject_token_fault,
            metadata: *metadata_fault,
            iam: *iam_fault,
        },
    }
}

fn complain(fault: impl Display) {
    // Standard error may be closed; the exit code still tells.
    let _ = writeln!(io::stderr(), "countermand emulate: {fault}");
}

#[cfg(test)]
mod tests;
