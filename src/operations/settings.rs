//! The settings of polling and of the cache.

use std::time::Duration;

use crate::config::{ConfigErrors, Invalid, Section, Time, integer, settings};

settings! {
    /// `[polling]`: the frequency and duration of queries about an operation. By default, Google allows 1,000
    /// queries in 100 seconds per project (Android Management API, "Usage limits").
    pub struct Polling in "polling" {
        /// The maximum age of a cached state of an unfinished operation, and the first interval between two polls.
        min_interval: Duration = "1s", Time, env "COUNTERMAND_POLLING_MIN_INTERVAL";
        /// The longest interval between two polls; not shorter than `min_interval`.
        max_interval: Duration = "20s", Time, env "COUNTERMAND_POLLING_MAX_INTERVAL";
        /// The maximum time of one WaitOperation. Proxies end a stream that is idle for five minutes (Envoy's
        /// `stream_idle_timeout`), and a WaitOperation is idle until its response.
        max_wait: Duration = "4m", Time, env "COUNTERMAND_POLLING_MAX_WAIT";
        /// The number of finished operations in the cache; 0 for no cache.
        cache_entries: usize = 2000, integer::<usize>(0..=1_000_000), env "COUNTERMAND_POLLING_CACHE_ENTRIES";
        /// The maximum age of a finished operation in the cache. A finished operation never changes, but Google
        /// deletes it eventually.
        cache_max_age: Duration = "1h", Time, env "COUNTERMAND_POLLING_CACHE_MAX_AGE";
    }
}

impl Polling {
    /// Adds an error if `min_interval` is longer than `max_interval`, and both are valid.
    pub(crate) fn check(&self, section: &Section, errors: &mut ConfigErrors) {
        let Self { min_interval, max_interval, .. } = self;
        let is_invalid = |key| section.origin(key).is_some_and(|origin| errors.has(origin));
        if ["min_interval", "max_interval"].into_iter().any(is_invalid) {
            return;
        }
        let key = if section.origin("min_interval").is_some() { "min_interval" } else { "max_interval" };
        if min_interval > max_interval {
            let [min, max] = [*min_interval, *max_interval].map(humantime::format_duration);
            let problem = format!("min_interval ({min}) is longer than max_interval ({max})");
            let hint = "give a min_interval that is not longer than max_interval";
            section.invalid(key, Invalid::new(problem, hint), errors);
        }
    }
}
