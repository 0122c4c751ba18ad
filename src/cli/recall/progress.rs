//! The progress of a recall on standard error: one line that is replaced on a terminal, otherwise a line at intervals.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::tracker::{RecallCounts, Tracker};
use crate::cli::output;

/// The time between two lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The time over which the rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// The number of characters of the bar.
const BAR_WIDTH: usize = 20;

/// Shows progress.
pub(super) struct ProgressDisplay {
    style: ProgressStyle,
    started: Instant,
    /// The number of calls that ended.
    calls: usize,
    /// The number of calls that ended before earlier times, at most as old as the window.
    samples: VecDeque<(Instant, usize)>,
    latest_line: Option<Instant>,
    has_shown_problem: bool,
    is_shown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProgressStyle {
    Bar,
    Lines,
}

impl ProgressDisplay {
    pub(super) fn new() -> Self {
        let style = if output::is_replaceable() { ProgressStyle::Bar } else { ProgressStyle::Lines };
        let (started, samples) = (Instant::now(), VecDeque::new());
        let (latest_line, has_shown_problem, is_shown) = (None, false, false);
        Self { style, started, calls: 0, samples, latest_line, has_shown_problem, is_shown }
    }

    /// Counts a call that ended.
    pub(super) fn count_call(&mut self) {
        self.calls += 1;
    }

    /// Shows the progress if it is time for a line. `problem` states the calls that are repeated.
    pub(super) fn show(&mut self, tracker: &Tracker, is_listing: bool, problem: Option<&str>) {
        let now = Instant::now();
        let is_due = match self.style {
            ProgressStyle::Bar => true,
            // The first problem is shown at once.
            ProgressStyle::Lines if !self.has_shown_problem && problem.is_some() => true,
            ProgressStyle::Lines => now >= self.latest_line.unwrap_or(self.started) + LINE_INTERVAL,
        };
        let rate = self.rate(now);
        if !is_due {
            return;
        }
        let counts = tracker.counts();
        let devices =
            tracker.devices.iter().filter(|device| device.open_cancels > 0 || !device.unconfirmed.is_empty());
        let calls_left = counts.found - counts.answered + devices.count();
        let line = line(&counts, calls_left, rate, is_listing, problem);
        self.latest_line = Some(now);
        self.has_shown_problem |= problem.is_some();
        if self.style == ProgressStyle::Bar {
            output::replace_line_cut(&format!("{} {line}", bar(&counts)));
            self.is_shown = true;
        } else {
            output::to_stderr(&format!("recall: {line}"));
        }
    }

    /// Erases the line on a terminal.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            output::replace_line("");
        }
    }

    /// The calls that ended, per second.
    fn rate(&mut self, now: Instant) -> f64 {
        while self.samples.front().is_some_and(|(time, _)| now.duration_since(*time) > RATE_WINDOW) {
            self.samples.pop_front();
        }
        let (since, calls) = self.samples.front().copied().unwrap_or((self.started, 0));
        self.samples.push_back((now, self.calls));
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 { as_f64(self.calls - calls) / seconds } else { 0.0 }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.end();
    }
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn bar(counts: &RecallCounts) -> String {
    // A cancel and its confirmation are two steps.
    let steps = counts.answered + counts.found - counts.left();
    let filled = BAR_WIDTH * steps / (2 * counts.found).max(1);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_WIDTH.saturating_sub(filled)))
}

fn line(
    counts: &RecallCounts,
    calls_left: usize,
    rate: f64,
    is_listing: bool,
    problem: Option<&str>,
) -> String {
    let RecallCounts { found, answered, cancelled, too_late, failed, unknown } = counts;
    let more = if is_listing { "+" } else { "" };
    let mut line = format!(
        "{answered} of {found}{more} cancels answered, {cancelled} cancelled, {too_late} too late, {failed} failed, \
         {unknown} unknown, {} without outcome, {rate:.1} calls/s",
        counts.left(),
    );
    if rate > 0.0 && !is_listing {
        // A rate is positive because at least one call ended in the window, so the time is representable.
        let seconds = as_f64(calls_left) / rate;
        let left = Duration::from_secs_f64(seconds.ceil());
        line += &format!(", {} to go", humantime::format_duration(left));
    }
    match problem {
        Some(problem) => format!("{line}; {problem}"),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_counts_the_rate_and_the_remaining_time() {
        let counts =
            RecallCounts { found: 1000, answered: 400, cancelled: 300, too_late: 2, failed: 1, unknown: 1 };
        assert_eq!(
            line(&counts, 610, 10.0, false, None),
            "400 of 1000 cancels answered, 300 cancelled, 2 too late, 1 failed, 1 unknown, 696 without outcome, \
             10.0 calls/s, 1m 1s to go"
        );
        assert_eq!(
            line(&counts, 610, 0.0, true, Some("retrying 1 call: n: UNAVAILABLE")),
            "400 of 1000+ cancels answered, 300 cancelled, 2 too late, 1 failed, 1 unknown, 696 without outcome, \
             0.0 calls/s; retrying 1 call: n: UNAVAILABLE"
        );
        assert_eq!(bar(&counts), "[#######-------------]");
        assert_eq!(bar(&RecallCounts::default()), "[--------------------]");
    }
}
