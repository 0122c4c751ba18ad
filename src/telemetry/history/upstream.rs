//! The last minutes of the requests to the Android Management API.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    Slots,
    calls::{quantiles, sum},
    clock_time,
    durations::Durations,
};
use crate::telemetry::metrics::RequestAttempt;

/// The kind of the response to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseClass {
    /// A status below 400.
    Success,
    /// A status from 400 to 499, such as 404 for an unknown operation.
    ClientError,
    /// A status from 500.
    ServerError,
    /// No response. Also a request that a hedge overtook.
    Nothing,
}

/// The requests of the window.
#[derive(Debug)]
pub struct UpstreamHistory(Mutex<History>);

#[derive(Debug)]
struct History {
    slots: Slots<UpstreamSlot>,
    last_error: Option<(Instant, &'static str)>,
}

/// The requests of one slot.
#[derive(Debug, Clone, Default)]
struct UpstreamSlot {
    /// By [`ResponseClass`].
    responses: [u32; 4],
    /// Requests after the first of an upstream call, and hedges.
    again: [u32; 2],
    durations: Durations,
}

/// The requests of the window, read at one time. Series have one element for each complete slot since the start,
/// oldest first. The other counts include the time since.
#[derive(Debug, Clone)]
pub struct UpstreamWindow {
    /// The requests of each slot, by [`ResponseClass`].
    pub responses: Vec<[u32; 4]>,
    /// The median and the 99th percentile of the durations in each slot. `None` without requests.
    pub durations: Vec<Option<[Duration; 2]>>,
    /// The requests of the window, by [`ResponseClass`].
    pub all_responses: [u64; 4],
    /// The median and the 99th percentile of the durations in the window.
    pub all_durations: Option<[Duration; 2]>,
    /// Requests that repeated a failed one.
    pub retries: u64,
    /// Requests that were sent while an earlier one had no response yet.
    pub hedges: u64,
    /// The latest error since the start. It can be older than the window.
    pub last_error: Option<UpstreamError>,
}

/// A request with an error status, or without a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    /// The time of the response, or of the failure.
    pub time: SystemTime,
    /// The HTTP status, or the reason why there is no response: `timeout`, `connect`, `refused`, `reset`, `not_http`.
    pub code: &'static str,
}

impl ResponseClass {
    /// The class of an HTTP status or of a failure, as [`UpstreamError::code`] has them.
    fn of(code: &str) -> Self {
        match code.bytes().next() {
            Some(b'1'..=b'3') => Self::Success,
            Some(b'4') => Self::ClientError,
            // An unusual status, `_OTHER`, is no success.
            Some(b'5' | b'_') => Self::ServerError,
            _ => Self::Nothing,
        }
    }
}

impl Default for UpstreamHistory {
    fn default() -> Self {
        Self(Mutex::new(History { slots: Slots::new(), last_error: None }))
    }
}

impl UpstreamHistory {
    /// Counts a request that began at `started` and took `duration`. `code` is as in [`UpstreamError::code`].
    pub(in crate::telemetry) fn add(
        &self,
        attempt: RequestAttempt,
        code: &'static str,
        started: Instant,
        duration: Duration,
    ) {
        let ended = started + duration;
        let class = ResponseClass::of(code);
        let mut history = self.lock();
        let slot = history.slots.at(ended);
        slot.responses[class as usize] += 1;
        slot.durations.add(duration);
        match attempt {
            RequestAttempt::Number(0 | 1) => {}
            RequestAttempt::Number(_) => slot.again[0] += 1,
            RequestAttempt::Hedge => slot.again[1] += 1,
        }
        if class != ResponseClass::Success {
            history.last_error = Some((ended, code));
        }
    }

    /// Reads the window.
    #[must_use]
    pub fn read(&self) -> UpstreamWindow {
        let mut history = self.lock();
        let last_error =
            history.last_error.map(|(ended, code)| UpstreamError { time: clock_time(ended), code });
        let slots = history.slots.read(Instant::now());
        let complete = &slots[..slots.len() - 1];
        let [retries, hedges] = sum(slots.iter().map(|slot| slot.again.map(u64::from)));
        UpstreamWindow {
            responses: complete.iter().map(|slot| slot.responses).collect(),
            durations: complete.iter().map(|slot| quantiles([&slot.durations].into_iter())).collect(),
            all_responses: sum(slots.iter().map(|slot| slot.responses.map(u64::from))),
            all_durations: quantiles(slots.iter().map(|slot| &slot.durations)),
            retries,
            hedges,
            last_error,
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::UpstreamHistory;
    use crate::telemetry::{
        history::SLOT,
        metrics::RequestAttempt::{Hedge, Number},
    };

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_class_and_attempt() {
        let history = UpstreamHistory::default();
        assert_eq!(history.read().last_error, None);
        for (attempt, code) in [
            (Number(1), "200"),
            (Number(1), "503"),
            (Number(2), "reset"),
            (Number(3), "_OTHER"),
            (Hedge, "404"),
            (Number(1), "302"),
        ] {
            history.add(attempt, code, Instant::now(), Duration::from_millis(20));
        }
        advance(SLOT).await;
        let window = history.read();
        assert_eq!((&window.responses[..], window.all_responses), (&[[2, 1, 2, 1]][..], [2, 1, 2, 1]));
        assert_eq!((window.retries, window.hedges), (2, 1));
        assert_eq!(window.last_error.map(|error| error.code), Some("404"));
        assert!(window.durations[0].is_some() && window.all_durations.is_some());
    }
}
