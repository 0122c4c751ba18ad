//! The settings of polling, of the cache and of the guard.

use std::time::Duration;

use super::guard::{GuardLimit, MAX_LIMIT};
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

settings! {
    /// `[guard]`: reports many pending WIPEs of an enterprise.
    pub struct GuardSettings in "guard" {
        /// The number of pending WIPEs of an enterprise above which a line in the log names the enterprise, and
        /// `countermand_guard_triggered_total` rises. Required if there is a `[guard]`; without the section, nothing is
        /// counted. Calls are not affected.
        ///
        /// Distinct WIPEs count until they are done, or older than `period`. The guard sees only operations that a get, a
        /// list or a poll of this process shows: replicas count apart, and WIPEs that nobody reads are not noticed.
        /// `devices.delete` wipes a device too, but has no operation.
        pending_wipes: Option<u32>, integer::<u32>(0..=MAX_LIMIT), env "COUNTERMAND_GUARD_PENDING_WIPES";
        /// The maximum age of the WIPEs that count, by their `createTime`. An enterprise is reported when its number
        /// exceeds `pending_wipes`, and again each time the number has doubled since the last report. It is also reported
        /// again after the number was at most `pending_wipes`, or if more new WIPEs than that are pending this time after
        /// the last report. At most 16,384 WIPEs of an enterprise are counted.
        period: Duration = "10m", Time, env "COUNTERMAND_GUARD_PERIOD";
    }
}

impl GuardSettings {
    /// The limit; `None` with an error in the section.
    pub(crate) fn limit(&self, section: &Section, errors: &mut ConfigErrors) -> Option<GuardLimit> {
        if section.lacks("pending_wipes") {
            let hint = "give the number of pending WIPEs above which the guard reports, 50 for example";
            section.invalid("pending_wipes", Invalid::new("this is missing", hint), errors);
        }
        Some(GuardLimit { pending_wipes: self.pending_wipes?, period: self.period })
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
