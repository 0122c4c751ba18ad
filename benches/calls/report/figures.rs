//! A line of the report for one figure: the median of what was measured, its range, and its aim.

use std::io::{self, Write};

/// Several measurements of one thing; there is at least one.
#[derive(Debug)]
pub(super) struct Spread {
    least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { least: values[0], median, most: values[values.len() - 1] }
    }
}

/// A line that tells a measurement.
pub(super) fn figure(
    out: &mut impl Write,
    what: &str,
    spread: &Spread,
    digits: usize,
    unit: &str,
) -> io::Result<()> {
    writeln!(out, "{}", shown(what, spread, digits, unit))
}

/// Likewise, and what it aims at.
pub(super) fn aim(
    out: &mut impl Write,
    what: &str,
    spread: &Spread,
    digits: usize,
    unit: &str,
    at_most: f64,
) -> io::Result<()> {
    let verdict = if spread.median <= at_most { "met" } else { "missed" };
    let shown = shown(what, spread, digits, unit);
    writeln!(out, "{shown}; aim {at_most} {unit}: {verdict}")
}

fn shown(what: &str, spread: &Spread, digits: usize, unit: &str) -> String {
    let Spread { least, median, most } = spread;
    let range = if least == most { String::new() } else { format!(" ({least:.digits$} to {most:.digits$})") };
    format!("{what:<70}{median:>8.digits$} {unit}{range}")
}
