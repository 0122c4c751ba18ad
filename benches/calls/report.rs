//! The figures, and beside them what they aim at. A missed aim is no failure: this shows, it does not
//! judge.

use std::io::{self, Write};
use std::time::Duration;

mod figures;

use figures::{Spread, aim, figure};

use crate::Fault;
use crate::options::Options;
use crate::pinning::Cores;
use crate::rounds::{Row, Sample};
use crate::waiters::{self, Held};
use crate::workload::{CANCEL, CANCEL_GUARDED, CANCEL_ROUTED};

/// From spawn to SERVING, in milliseconds.
const START_AIM: f64 = 100.0;
/// Resident under 10,000 waiters, in millions of bytes.
const WAITERS_MEMORY_AIM: f64 = 100.0;
/// Queries in one of the longest intervals, for 100 operations of 10 devices.
const QUERIES_AIM: f64 = 10.0;

/// How the run was set up.
pub(crate) fn setting(out: &mut impl Write, options: &Options, cores: Option<&Cores>) -> io::Result<()> {
    let Options { rounds, calls, in_flight, connections, .. } = options;
    writeln!(
        out,
        "{rounds} rounds of {calls} calls a row, {in_flight} in flight over {connections} connections"
    )?;
    match cores {
        Some(cores) => {
            writeln!(out, "targets alone on core {}, upstream and load on the others\n", cores.target)
        }
        None => writeln!(out, "processes not pinned to cores\n"),
    }
}

/// A line a row, each figure the median of its rounds.
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
            named(row),
            of(|sample| microseconds(sample.cpu_per_call)),
            of(|sample| sample.busy * 100.0),
            of(|sample| sample.calls_per_second),
            of(|sample| milliseconds(sample.p50)),
            of(|sample| milliseconds(sample.p99)),
            most_resident(row),
            megabytes(row.peak_resident),
        )?;
    }
    writeln!(out)
}

/// Each of `others` beside its floor, and some beside one another.
///
/// # Errors
///
/// When it cannot be printed, and for a row without a floor.
pub(crate) fn comparisons(out: &mut impl Write, floors: &[Row], others: &[Row]) -> Result<(), Fault> {
    for row in others {
        let floor = floors.iter().find(|floor| {
            floor.workload.method == row.workload.method && floor.is_encrypted() == row.is_encrypted()
        });
        against_floor(out, floor.ok_or("a row without a floor")?, row)?;
    }
    let of = |rows: &[Row], name| rows.iter().position(|row| row.workload.name == name);
    for (row, (of_whom, other)) in [
        (CANCEL_ROUTED.name, (others, CANCEL.name)),
        (CANCEL_GUARDED.name, (others, CANCEL.name)),
        (CANCEL_GUARDED.name, (floors, CANCEL.name)),
    ] {
        if let (Some(row), Some(other)) = (of(others, row), of(of_whom, other)) {
            beside(out, &of_whom[other], &others[row])?;
        }
    }
    Ok(())
}

/// `row` beside the floor and the aims.
fn against_floor(out: &mut impl Write, floor: &Row, row: &Row) -> io::Result<()> {
    let (ratio, name) = (cpu_ratio(floor, row), named(row));
    let what = format!("{name}: CPU to the floor's");
    match row.workload.cpu_aim {
        Some(cpu_aim) => aim(out, &what, &ratio, 2, "×", cpu_aim)?,
        None => figure(out, &what, &ratio, 2, "×")?,
    }
    let Some(memory_aim) = row.workload.memory_aim else { return Ok(()) };
    let resident = Spread::of([most_resident(row)]);
    aim(out, &format!("{name}: resident under load"), &resident, 1, "MB", memory_aim)
}

/// `row` beside another that is neither its floor nor its aim.
fn beside(out: &mut impl Write, other: &Row, row: &Row) -> io::Result<()> {
    let ratio = cpu_ratio(other, row);
    figure(out, &format!("{}: CPU to that of {}", named(row), named(other)), &ratio, 2, "×")
}

/// How long Countermand took to serve: at its plainest, where there is an aim, and otherwise.
pub(crate) fn starts(
    out: &mut impl Write,
    starts: &[Duration],
    others: &[(&str, Duration)],
) -> io::Result<()> {
    let spread = Spread::of(starts.iter().copied().map(milliseconds));
    aim(out, "from spawn to SERVING", &spread, 0, "ms", START_AIM)?;
    for (name, time) in others {
        figure(out, &format!("… {name}"), &Spread::of([milliseconds(*time)]), 0, "ms")?;
    }
    Ok(())
}

/// What the waiters cost.
pub(crate) fn waiters(out: &mut impl Write, held: &Held) -> io::Result<()> {
    let &Held { waiters, before, under, peak, queries_of_arrival, queries, watched } = held;
    writeln!(
        out,
        "\n{waiters} waiters on {} operations of {} devices, held for {} s",
        waiters::OPERATIONS,
        waiters::DEVICES,
        waiters::TIMEOUT.as_secs()
    )?;
    let one = |value| Spread::of([value]);
    figure(out, "resident before they came", &one(megabytes(before)), 1, "MB")?;
    aim(out, "resident under them", &one(megabytes(under)), 1, "MB", WAITERS_MEMORY_AIM)?;
    figure(out, "peak, their answers included", &one(megabytes(peak)), 1, "MB")?;
    let each = under.saturating_sub(before) as f64 / f64::from(waiters);
    figure(out, "a waiter", &one(each), 0, "bytes")?;
    figure(out, "queries upstream while they came", &one(queries_of_arrival as f64), 0, "in all")?;
    let rate = queries as f64 / watched.as_secs_f64();
    figure(out, "queries upstream while they wait", &one(rate), 2, "a second")?;
    let each_interval = rate * waiters::LONGEST_INTERVAL.as_secs_f64();
    let what = format!("… in the interval of {} s", waiters::LONGEST_INTERVAL.as_secs());
    aim(out, &what, &one(each_interval), 1, "queries", QUERIES_AIM)
}

fn named(row: &Row) -> String {
    format!("{} {}", row.target_name, row.workload.name)
}

/// Taken within each round.
fn cpu_ratio(other: &Row, row: &Row) -> Spread {
    let pairs = row.samples.iter().zip(&other.samples);
    Spread::of(pairs.map(|(ours, other)| ours.cpu_per_call.div_duration_f64(other.cpu_per_call)))
}

/// The most memory seen in any round: a median would hide a target that grows.
fn most_resident(row: &Row) -> f64 {
    Spread::of(row.samples.iter().map(|sample| megabytes(sample.resident))).most
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
