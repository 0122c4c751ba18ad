//! Prints the measurements and their goals. A missed goal is printed, and does not fail the run.

use std::io::{self, Write};
use std::time::Duration;

use crate::process::Cores;
use crate::rows::{
    CALLERS, CANCEL, CANCEL_GUARDED, CANCEL_PACED, CANCEL_PACED_BY_ALL, CANCEL_ROUTED, CANCEL_SHARED,
    CANCEL_TRACED, CONNECTIONS, Row, Sample,
};
use crate::waiters::{self, WaiterCost};
use crate::{Error, Options};

/// The goal for the time from spawn to SERVING, in milliseconds.
const START_GOAL: f64 = 100.0;

/// The goal for the resident memory with 10,000 waiters, in millions of bytes.
const WAITERS_MEMORY_GOAL: f64 = 100.0;

/// The goal for the queries in a maximum interval, for 100 operations of 10 devices.
const QUERIES_GOAL: f64 = 10.0;

/// Prints the parameters of the run.
pub(crate) fn setting(out: &mut impl Write, options: &Options, cores: Option<&Cores>) -> io::Result<()> {
    let Options { rounds, calls, .. } = options;
    writeln!(
        out,
        "{rounds} rounds of {calls} calls per row, {CALLERS} in flight over {CONNECTIONS} connections"
    )?;
    match cores {
        Some(cores) => {
            writeln!(out, "targets alone on core {}, upstream and callers on the others\n", cores.target)
        }
        None => writeln!(out, "processes not pinned to cores: there is one\n"),
    }
}

/// Prints one line per row, with the medians of its rounds.
pub(crate) fn table<'a>(out: &mut impl Write, rows: impl Iterator<Item = &'a Row>) -> io::Result<()> {
    writeln!(
        out,
        "{:<37}{:>12}{:>10}{:>9}{:>13}",
        "median of rounds", "CPU µs/call", "calls/s", "p99 ms", "resident MB"
    )?;
    for row in rows {
        let of = |figure: fn(&Sample) -> f64| Spread::of(row.samples.iter().map(figure)).median;
        writeln!(
            out,
            "{:<37}{:>12.2}{:>10.0}{:>9.2}{:>13.1}",
            row.name,
            of(|sample| sample.cpu_per_call.as_secs_f64() * 1e6),
            of(|sample| sample.calls_per_second),
            of(|sample| milliseconds(sample.p99)),
            max_resident(row),
        )?;
    }
    writeln!(out)
}

/// Compares each of `others` with its baseline, and some rows with one another.
pub(crate) fn comparisons(out: &mut impl Write, baselines: &[Row], others: &[Row]) -> Result<(), Error> {
    for row in others {
        let baseline = baselines.iter().find(|baseline| baseline.is_encrypted() == row.is_encrypted());
        let baseline = baseline.ok_or("a row without a baseline")?;
        cpu_to(out, baseline, row, row.workload.max_cpu)?;
        let p99 = ratio(baseline, row, |sample| sample.p99);
        let label = format!("{}: p99 to {}", row.name, baseline.name);
        figure(out, &label, &p99, 2, "×", row.workload.max_p99)?;
        if row.workload.max_resident.is_some() {
            let label = format!("{}: resident under load", row.name);
            figure(out, &label, &Spread::of([max_resident(row)]), 1, "MB", row.workload.max_resident)?;
        }
    }
    let with_name = |rows: &[Row], name| rows.iter().position(|row| row.workload.name == name);
    for (row, (rows, other)) in [
        (CANCEL_ROUTED.name, (others, CANCEL.name)),
        (CANCEL_GUARDED.name, (others, CANCEL.name)),
        (CANCEL_TRACED.name, (others, CANCEL_GUARDED.name)),
        (CANCEL_PACED.name, (others, CANCEL.name)),
        (CANCEL_PACED_BY_ALL.name, (others, CANCEL.name)),
        (CANCEL_GUARDED.name, (baselines, CANCEL.name)),
    ] {
        if let (Some(row), Some(other)) = (with_name(others, row), with_name(rows, other)) {
            cpu_to(out, &rows[other], &others[row], None)?;
        }
    }
    for other in others.iter().filter(|other| other.target_name != "countermand") {
        if let Some(row) = with_name(others, other.workload.name) {
            cpu_to(out, other, &others[row], None)?;
        }
    }
    Ok(())
}

fn cpu_to(out: &mut impl Write, other: &Row, row: &Row, goal: Option<f64>) -> io::Result<()> {
    let label = format!("{}: CPU to {}", row.name, other.name);
    figure(out, &label, &ratio(other, row, |sample| sample.cpu_per_call), 2, "×", goal)
}

/// Prints how many of the `upstream_calls` the shared cancels caused per 100 callers.
pub(crate) fn sharing(out: &mut impl Write, rows: &[Row], upstream_calls: u64) -> io::Result<()> {
    let Some(row) = rows.iter().find(|row| row.workload.name == CANCEL_SHARED.name) else { return Ok(()) };
    let each = upstream_calls as f64 / row.calls() as f64 * CALLERS as f64;
    let label = format!("{}: upstream calls for {CALLERS} callers", row.name);
    figure(out, &label, &Spread::of([each]), 2, "calls", Some(1.0))
}

/// Prints the start times of Countermand with a plain configuration.
pub(crate) fn starts(out: &mut impl Write, starts: &[Duration]) -> io::Result<()> {
    let spread = Spread::of(starts.iter().copied().map(milliseconds));
    figure(out, "from spawn to SERVING", &spread, 0, "ms", Some(START_GOAL))
}

/// Prints the cost of `waiters` waiters.
pub(crate) fn waiters(out: &mut impl Write, waiters: u32, cost: &WaiterCost) -> io::Result<()> {
    let &WaiterCost { before, during, peak, queries_per_second } = cost;
    let (operations, devices, seconds) = (waiters::OPERATIONS, waiters::DEVICES, waiters::WAIT.as_secs());
    writeln!(
        out,
        "\n{waiters} waiters on {operations} operations of {devices} devices, held for {seconds} s"
    )?;
    let one = |value| Spread::of([value]);
    figure(out, "resident before the waits", &one(megabytes(before)), 1, "MB", None)?;
    figure(out, "resident during the waits", &one(megabytes(during)), 1, "MB", Some(WAITERS_MEMORY_GOAL))?;
    figure(out, "peak, including the responses", &one(megabytes(peak)), 1, "MB", None)?;
    let each = during.saturating_sub(before) as f64 / f64::from(waiters);
    figure(out, "per waiter", &one(each), 0, "bytes", None)?;
    let interval = waiters::MAX_INTERVAL;
    let label = format!("upstream queries in {} s", interval.as_secs());
    let queries = queries_per_second * interval.as_secs_f64();
    figure(out, &label, &one(queries), 1, "queries", Some(QUERIES_GOAL))
}

/// The spread of one or more measurements.
#[derive(Debug)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { min: values[0], median, max: values[values.len() - 1] }
    }
}

/// Prints a measurement, and whether its median is at most `goal`.
fn figure(
    out: &mut impl Write,
    label: &str,
    spread: &Spread,
    digits: usize,
    unit: &str,
    goal: Option<f64>,
) -> io::Result<()> {
    let Spread { min, median, max } = spread;
    write!(out, "{label:<70}{median:>8.digits$} {unit}")?;
    if min != max {
        write!(out, " ({min:.digits$} to {max:.digits$})")?;
    }
    if let Some(goal) = goal {
        let verdict = if *median <= goal { "met" } else { "missed" };
        write!(out, "; goal {goal} {unit}: {verdict}")?;
    }
    writeln!(out)
}

/// The ratios of two rows, one per round.
fn ratio(other: &Row, row: &Row, of: fn(&Sample) -> Duration) -> Spread {
    let pairs = row.samples.iter().zip(&other.samples);
    Spread::of(pairs.map(|(ours, theirs)| of(ours).div_duration_f64(of(theirs))))
}

/// The maximum memory of any round. A median would hide growth.
fn max_resident(row: &Row) -> f64 {
    Spread::of(row.samples.iter().map(|sample| megabytes(sample.resident))).max
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
