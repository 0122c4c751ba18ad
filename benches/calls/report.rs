//! Prints the figures beside their aims. A missed aim is printed, and does not fail the run.

use std::io::{self, Write};
use std::time::Duration;

use crate::Error;
use crate::options::Options;
use crate::process::Cores;
use crate::rows::{Row, Sample};
use crate::waiters::{self, Held};
use crate::workload::{CANCEL, CANCEL_GUARDED, CANCEL_ROUTED, CANCEL_SHARED};

/// From spawn to SERVING, in milliseconds.
const START_AIM: f64 = 100.0;
/// Resident with 10,000 waiters, in millions of bytes.
const WAITERS_MEMORY_AIM: f64 = 100.0;
/// Queries in one of the longest intervals, for 100 operations of 10 devices.
const QUERIES_AIM: f64 = 10.0;

/// Prints how the run is set up.
pub(crate) fn setting(out: &mut impl Write, options: &Options, cores: Option<&Cores>) -> io::Result<()> {
    let Options { rounds, calls, in_flight, connections, .. } = options;
    writeln!(
        out,
        "{rounds} rounds of {calls} calls per row, {in_flight} in flight over {connections} connections"
    )?;
    match cores {
        Some(cores) => {
            writeln!(out, "targets alone on core {}, upstream and callers on the others\n", cores.target)
        }
        None => writeln!(out, "processes not pinned to cores\n"),
    }
}

/// Prints a line per row, each figure the median of its rounds.
pub(crate) fn table(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    writeln!(
        out,
        "{:<36}{:>12}{:>7}{:>10}{:>9}{:>9}{:>13}{:>9}",
        "median of rounds", "CPU µs/call", "busy", "calls/s", "p50 ms", "p99 ms", "resident MB", "peak MB"
    )?;
    for row in rows {
        let of = |figure: fn(&Sample) -> f64| Spread::of(row.samples.iter().map(figure)).median;
        writeln!(
            out,
            "{:<36}{:>12.2}{:>6.0}%{:>10.0}{:>9.2}{:>9.2}{:>13.1}{:>9.1}",
            row_name(row),
            of(|sample| microseconds(sample.cpu_per_call)),
            of(|sample| sample.busy * 100.0),
            of(|sample| sample.calls_per_second),
            of(|sample| milliseconds(sample.p50)),
            of(|sample| milliseconds(sample.p99)),
            max_resident(row),
            megabytes(row.peak_resident),
        )?;
    }
    writeln!(out)
}

/// Compares each of `others` with its baseline, and some rows with one another.
///
/// # Errors
///
/// When a line cannot be printed, and for a row without a baseline.
pub(crate) fn comparisons(out: &mut impl Write, baselines: &[Row], others: &[Row]) -> Result<(), Error> {
    for row in others {
        let baseline = baselines.iter().find(|baseline| {
            baseline.workload.method == row.workload.method && baseline.is_encrypted() == row.is_encrypted()
        });
        against_baseline(out, baseline.ok_or("a row without a baseline")?, row)?;
    }
    let with_name = |rows: &[Row], name| rows.iter().position(|row| row.workload.name == name);
    for (row, (rows, other)) in [
        (CANCEL_ROUTED.name, (others, CANCEL.name)),
        (CANCEL_GUARDED.name, (others, CANCEL.name)),
        (CANCEL_GUARDED.name, (baselines, CANCEL.name)),
    ] {
        if let (Some(row), Some(other)) = (with_name(others, row), with_name(rows, other)) {
            cpu_to(out, &rows[other], &others[row])?;
        }
    }
    for other in others.iter().filter(|other| other.target_name != "countermand") {
        if let Some(row) = with_name(others, other.workload.name) {
            cpu_to(out, other, &others[row])?;
        }
    }
    Ok(())
}

/// Compares `row` with its baseline and with its aims.
fn against_baseline(out: &mut impl Write, baseline: &Row, row: &Row) -> io::Result<()> {
    let (name, aims) = (row_name(row), &row.workload.aims);
    figure(
        out,
        &format!("{name}: CPU to {}", row_name(baseline)),
        &cpu_ratio(baseline, row),
        2,
        "×",
        aims.cpu,
    )?;
    let p99 = ratio(baseline, row, |sample| sample.p99);
    figure(out, &format!("{name}: p99 to {}", row_name(baseline)), &p99, 2, "×", aims.p99)?;
    if aims.resident.is_empty() {
        return Ok(());
    }
    let resident = Spread::of([max_resident(row)]);
    figure(out, &format!("{name}: resident under load"), &resident, 1, "MB", aims.resident)
}

/// Compares `row` with another that is not its baseline.
fn cpu_to(out: &mut impl Write, other: &Row, row: &Row) -> io::Result<()> {
    let what = format!("{}: CPU to {}", row_name(row), row_name(other));
    figure(out, &what, &cpu_ratio(other, row), 2, "×", &[])
}

/// Prints how many calls the upstream of the shared cancels received: `upstream_calls` in all.
pub(crate) fn sharing(out: &mut impl Write, rows: &[Row], upstream_calls: u64) -> io::Result<()> {
    let Some(row) = rows.iter().find(|row| row.workload.name == CANCEL_SHARED.name) else { return Ok(()) };
    let callers = row.workload.simultaneous.unwrap_or(1);
    let each = upstream_calls as f64 / row.calls() as f64 * f64::from(callers);
    let what = format!("{}: upstream calls for {callers} callers", row_name(row));
    figure(out, &what, &Spread::of([each]), 2, "calls", &[1.0])
}

/// Prints how long Countermand took to serve: `starts` with a plain configuration, `others` with more.
pub(crate) fn starts(
    out: &mut impl Write,
    starts: &[Duration],
    others: &[(String, Duration)],
) -> io::Result<()> {
    let spread = Spread::of(starts.iter().copied().map(milliseconds));
    figure(out, "from spawn to SERVING", &spread, 0, "ms", &[START_AIM])?;
    for (name, time) in others {
        figure(out, &format!("… {name}"), &Spread::of([milliseconds(*time)]), 0, "ms", &[])?;
    }
    Ok(())
}

/// Prints what the waiters cost.
pub(crate) fn waiters(out: &mut impl Write, held: &Held) -> io::Result<()> {
    let &Held { waiters, before, during, peak, queries_of_arrival, queries, watched } = held;
    writeln!(
        out,
        "\n{waiters} waiters on {} operations of {} devices, held for {} s",
        waiters::OPERATIONS,
        waiters::DEVICES,
        waiters::TIMEOUT.as_secs()
    )?;
    let one = |value| Spread::of([value]);
    figure(out, "resident before they came", &one(megabytes(before)), 1, "MB", &[])?;
    figure(out, "resident while they wait", &one(megabytes(during)), 1, "MB", &[WAITERS_MEMORY_AIM])?;
    figure(out, "peak, with their answers", &one(megabytes(peak)), 1, "MB", &[])?;
    let each = during.saturating_sub(before) as f64 / f64::from(waiters);
    figure(out, "per waiter", &one(each), 0, "bytes", &[])?;
    figure(out, "upstream queries while they came", &one(queries_of_arrival as f64), 0, "in all", &[])?;
    let rate = queries as f64 / watched.as_secs_f64();
    figure(out, "upstream queries while they wait", &one(rate), 2, "a second", &[])?;
    let per_interval = rate * waiters::MAX_INTERVAL.as_secs_f64();
    let what = format!("… in the interval of {} s", waiters::MAX_INTERVAL.as_secs());
    figure(out, &what, &one(per_interval), 1, "queries", &[QUERIES_AIM])
}

/// Several measurements of one figure, at least one.
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

/// Prints a measurement and, for each of `aims`, whether its median is at most that.
fn figure(
    out: &mut impl Write,
    what: &str,
    spread: &Spread,
    digits: usize,
    unit: &str,
    aims: &[f64],
) -> io::Result<()> {
    let Spread { min, median, max } = spread;
    write!(out, "{what:<70}{median:>8.digits$} {unit}")?;
    if min != max {
        write!(out, " ({min:.digits$} to {max:.digits$})")?;
    }
    for aim in aims {
        let verdict = if median <= aim { "met" } else { "missed" };
        write!(out, "; aim {aim} {unit}: {verdict}")?;
    }
    writeln!(out)
}

fn row_name(row: &Row) -> String {
    format!("{} {}", row.target_name, row.workload.name)
}

fn cpu_ratio(other: &Row, row: &Row) -> Spread {
    ratio(other, row, |sample| sample.cpu_per_call)
}

/// Taken within each round.
fn ratio(other: &Row, row: &Row, of: fn(&Sample) -> Duration) -> Spread {
    let pairs = row.samples.iter().zip(&other.samples);
    Spread::of(pairs.map(|(ours, theirs)| of(ours).div_duration_f64(of(theirs))))
}

/// The most memory seen in any round: a median would hide a target that grows.
fn max_resident(row: &Row) -> f64 {
    Spread::of(row.samples.iter().map(|sample| megabytes(sample.resident))).max
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
