//! `[polling]`: how often Google is asked about an operation, and for how long.

use std::time::Duration;

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    source::{Given, duration},
    table::Section,
};

/// The most operations that may be remembered. Their worst is some gigabytes, which is the operator's
/// choice; more is a slip of the hand.
const MOST_ENTRIES: i64 = 1_000_000;

/// The default of `max_wait`. Proxies end a stream that is silent for five minutes (Envoy's `stream_idle_timeout`), and
/// a WaitOperation is silent until its answer.
const MAX_WAIT: Duration = Duration::from_secs(240);

/// How often Google is asked about an operation, and for how long. A query is what is rationed: 1,000 in
/// 100 seconds and project by default (Android Management API, "Usage limits").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polling {
    /// How old the state of an unfinished operation may be when it is given out, and the first interval
    /// of a poller; 1 ms to 1 h.
    pub min_interval: Duration,
    /// What a poller's interval grows to; `min_interval` to 1 h.
    pub max_interval: Duration,
    /// The longest that one WaitOperation is held; 1 ms to 1 h.
    pub max_wait: Duration,
    /// How many finished operations are remembered; 0 (none) to 1,000,000.
    pub cache_entries: usize,
    /// How long a finished operation is remembered; 1 ms to 1 h. It never changes, but Google forgets it
    /// in the end, and so does whoever asks here.
    pub cache_max_age: Duration,
}

impl Polling {
    pub(super) fn read(environment: &mut Environment, file: &mut Section<'_>, faults: &mut Faults) -> Self {
        let before = faults.len();
        let min_given = environment
            .text("COUNTERMAND_POLLING_MIN_INTERVAL", faults)
            .or(file.text("min_interval", faults));
        let min_interval = time(min_given.as_ref(), Duration::from_secs(1), faults);
        let max_given = environment
            .text("COUNTERMAND_POLLING_MAX_INTERVAL", faults)
            .or(file.text("max_interval", faults));
        let max_interval = time(max_given.as_ref(), Duration::from_secs(20), faults);
        if let Some(given) = min_given.or(max_given)
            && faults.len() == before
            && min_interval > max_interval
        {
            let [min, max] = [min_interval, max_interval].map(humantime::format_duration);
            let problem = format!("min_interval ({min}) is longer than max_interval ({max})");
            faults.add(&given.origin, problem, "give a min_interval that is not longer than max_interval");
        }

        let max_wait =
            environment.text("COUNTERMAND_POLLING_MAX_WAIT", faults).or(file.text("max_wait", faults));
        let max_wait = time(max_wait.as_ref(), MAX_WAIT, faults);

        let cache_entries = environment
            .integer("COUNTERMAND_POLLING_CACHE_ENTRIES", faults)
            .or(file.integer("cache_entries", faults))
            .and_then(|given| given.parse(faults, |count: &i64| entries(*count)))
            .unwrap_or(2000);

        let cache_max_age = environment
            .text("COUNTERMAND_POLLING_CACHE_MAX_AGE", faults)
            .or(file.text("cache_max_age", faults));
        let cache_max_age = time(cache_max_age.as_ref(), Duration::from_secs(3600), faults);

        Self { min_interval, max_interval, max_wait, cache_entries, cache_max_age }
    }
}

fn time(given: Option<&Given<String>>, default: Duration, faults: &mut Faults) -> Duration {
    given.and_then(|given| given.parse(faults, duration)).unwrap_or(default)
}

fn entries(count: i64) -> Result<usize, Wrong> {
    usize::try_from(count).ok().filter(|_| count <= MOST_ENTRIES).ok_or_else(|| {
        let remedy = format!("give a number from 0, for none, to {MOST_ENTRIES}");
        Wrong::new(format!("{count} is out of range"), remedy)
    })
}
