//! What a call costs in Countermand, beside what it would cost in a bare HTTP/2 relay.
//!
//! `cargo bench` starts, as processes of their own, a constant upstream ([`upstream`]), the relay
//! ([`relay`]: the floor) and `countermand serve` ([`target`]), drives the last two with the same gRPC
//! calls ([`load`]) in turns ([`rounds`]), and prints what the kernel says that they used
//! ([`accounting`], [`report`]). Then it holds many calls of WaitOperation open, and prints what they take
//! in memory and in queries ([`waiters`]). A wrong answer or a dead process fails it; a slow one does not.
//! `cargo bench -- --help` tells the options. Linux only: it reads `/proc`.
//!
//! The relay has the system's allocator, as Countermand has; should one change, so should the other.
//! Machines are shared and noisy: quote the ratio and the medians, not the best round.

mod accounting;
mod child;
mod configuration;
mod files;
mod grpc;
mod load;
mod operation;
mod options;
mod pinning;
mod relay;
mod report;
mod rounds;
mod target;
mod tls;
mod upstream;
mod waiters;
mod workload;

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use configuration::Configuration;
use options::Options;
use pinning::Cores;
use rounds::Row;
use workload::{CANCEL, CANCEL_ENCRYPTED, CANCEL_GUARDED, CANCEL_ROUTED, GET, GET_CACHED};

/// What makes a run worthless, as a text for whoever started it.
type Fault = Box<dyn std::error::Error + Send + Sync>;

// One thread, whatever the role: the floor is measured on one core, and the rest must leave it be.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    let result = match options.role.take() {
        Some(role) => role.play().await,
        None => until_signal(run(&options)).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // With nobody left to read it, the exit code still tells.
            let _ = writeln!(io::stderr(), "the benchmark failed: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work`, and drops it, its processes and files with it, when we are told to end.
async fn until_signal(work: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => Err("terminated".into()),
        _ = interrupt.recv() => Err("interrupted".into()),
    }
}

async fn run(options: &Options) -> Result<(), Fault> {
    let cores = if options.no_pin { None } else { Cores::share_out()? };
    let cores = cores.as_ref();
    let out = &mut io::stdout();
    report::setting(out, options, cores)?;

    let (_directory, paths) = files::write_certificates()?;
    let upstream = target::upstream(&paths).await?;
    let address = upstream.door.address;

    // Every row has a process of its own: what one leaves behind in memory must not show in another.
    let mut rows = Vec::new();
    let certified = tls::client_with_certificate(&paths)?;
    for (workload, tls) in [(&CANCEL, None), (&GET, None), (&CANCEL_ENCRYPTED, Some(certified))] {
        let name = format!("relay {}", workload.name);
        let relay = target::relay(&name, &paths, address, tls, cores).await?;
        rows.push(Row::prepare("relay", relay, workload, options).await?);
    }
    let floors = rows.len();
    let (mut starts, mut other_starts) = (Vec::new(), Vec::new());
    if !options.floor_only {
        let plain = Configuration::plain(&paths);
        let many = Configuration::many_credentials(&paths)?;
        let everything = Configuration::everything_on(&paths)?;
        for (workload, configuration) in [
            (&CANCEL, &plain),
            (&CANCEL_ROUTED, &many),
            (&CANCEL_GUARDED, &everything),
            (&GET, &plain),
            (&GET_CACHED, &plain),
        ] {
            let name = format!("countermand {}", workload.name);
            let start = async || target::countermand(&name, &paths, address, configuration, cores).await;
            let countermand = if std::ptr::eq(configuration, &plain) {
                target::time_starts(start, options.starts, &mut starts).await?
            } else {
                let (countermand, time) = start().await?;
                other_starts.push((workload.name, time));
                countermand
            };
            rows.push(Row::prepare("countermand", countermand, workload, options).await?);
        }
    }

    rounds::measure(&mut rows, options).await?;
    report::table(out, &rows)?;
    let (floors, others) = rows.split_at(floors);
    report::comparisons(out, floors, others)?;
    if !starts.is_empty() {
        report::starts(out, &starts, &other_starts)?;
    }
    drop(rows);
    if let Some(waiters) = NonZeroU32::new(options.waiters).filter(|_| !options.floor_only) {
        report::waiters(out, &waiters::measure(waiters, &paths, cores).await?)?;
    }
    Ok(())
}
