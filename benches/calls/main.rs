//! Measures what a call costs in Countermand, against a bare HTTP/2 relay.
//!
//! `cargo bench` starts three kinds of processes: a constant upstream ([`upstream`]), the relay ([`relay`],
//! the baseline) and `countermand serve` ([`target`]). It sends the same gRPC calls to the last two in turns
//! ([`rows`]), and prints the CPU time and memory that the kernel counts for each ([`process`], [`report`]).
//! Then it holds many calls of WaitOperation open, and prints their memory and upstream queries ([`waiters`]).
//! A wrong answer or a dead process fails the run; a missed aim does not. `cargo bench -- --help` lists the
//! options. Linux only: it reads `/proc`.
//!
//! The relay uses the allocator that Countermand uses: change both together. Machines are shared and noisy:
//! quote the ratios and the medians, not the best round.

mod envoy;
mod files;
mod grpc;
mod operation;
mod options;
mod process;
mod relay;
mod report;
mod rows;
mod target;
mod tls;
mod upstream;
mod waiters;
mod workload;

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};

use options::Options;
use process::Cores;
use rows::Row;
use target::{COUNTERMAND, Configuration};
use upstream::Upstream;
use workload::{
    CANCEL, CANCEL_COMPARED, CANCEL_ENCRYPTED, CANCEL_GUARDED, CANCEL_ROUTED, CANCEL_SHARED, GET, GET_CACHED,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Ends a run; its text is printed.
type Error = Box<dyn std::error::Error + Send + Sync>;

// One thread in every role: the relay is measured on one core, and the other roles must not use that core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    let result = match options.role.take() {
        Some(role) => role.play().await,
        None => until_signal(run(&options)).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "the benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work`. SIGTERM and SIGINT drop it, and with it its processes and files.
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
    let cores = if options.no_pin { None } else { Cores::split()? };
    let cores = cores.as_ref();
    let out = &mut io::stdout();
    report::setting(out, options, cores)?;

    let (_directory, paths) = files::write_certificates()?;
    let upstream = target::upstream(&paths).await?;
    let address = upstream.endpoint.address;

    // Every row has a process of its own, so that its memory is not another row's.
    let mut rows = Vec::new();
    let certified = tls::client_with_certificate(&paths)?;
    for (workload, tls) in [(&CANCEL, None), (&GET, None), (&CANCEL_ENCRYPTED, Some(certified))] {
        let name = format!("relay {}", workload.name);
        let relay = target::relay(&name, &paths, address, tls, cores).await?;
        rows.push(Row::prepare("relay", relay, workload, options).await?);
    }
    let relays = rows.len();

    let mut programs = vec![("countermand", Path::new(COUNTERMAND))];
    programs.extend(options.compare.as_deref().map(|program| ("other", program)));
    if options.relay_only {
        programs.clear();
    }
    let plain = Configuration::plain(&paths);
    let many = Configuration::many_credentials(&paths)?;
    let everything = Configuration::everything_on(&paths)?;
    // It runs in this process, so that the calls of the shared cancels can be counted.
    let (counting, counting_address) = Upstream::start(&paths, true).await?;
    let (mut starts, mut other_starts) = (Vec::new(), Vec::new());
    for (workload, configuration, upstream) in [
        (&CANCEL, &plain, address),
        (&CANCEL_ROUTED, &many, address),
        (&CANCEL_GUARDED, &everything, address),
        (&CANCEL_SHARED, &plain, counting_address),
        (&GET, &plain, address),
        (&GET_CACHED, &plain, address),
    ] {
        for &(target_name, program) in &programs {
            let name = format!("{target_name} {}", workload.name);
            let upstream = if target_name == "countermand" { upstream } else { address };
            let start =
                async || target::countermand(&name, program, &paths, upstream, configuration, cores).await;
            let countermand = if target_name == "countermand" && std::ptr::eq(configuration, &plain) {
                target::time_starts(start, options.starts, &mut starts).await?
            } else {
                let (countermand, time) = start().await?;
                other_starts.push((name.clone(), time));
                countermand
            };
            rows.push(Row::prepare(target_name, countermand, workload, options).await?);
        }
    }

    match &options.envoy {
        Some(program) => {
            let envoy = envoy::start(program, &paths, address, cores).await?;
            rows.push(Row::prepare("Envoy reverse transcoder", envoy, &CANCEL_COMPARED, options).await?);
        }
        None => writeln!(out, "no row for Envoy: --envoy is not given\n")?,
    }

    rows::measure(&mut rows, options).await?;
    report::table(out, &rows)?;
    let (baselines, others) = rows.split_at(relays);
    report::comparisons(out, baselines, others)?;
    if !starts.is_empty() {
        report::sharing(out, others, counting.calls.load(Ordering::Relaxed))?;
        report::starts(out, &starts, &other_starts)?;
    }
    drop(rows);
    if let Some(waiters) = NonZeroU32::new(options.waiters).filter(|_| !options.relay_only) {
        report::waiters(out, &waiters::measure(waiters, &paths, cores).await?)?;
    }
    Ok(())
}
