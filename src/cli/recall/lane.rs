//! The calls of one kind, and their pause while the server, the quota or the connection allows none.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::cli::{error::ClientError, exit::Exit, retry};

/// The calls of one kind. The server and the API have separate limits for cancels and for reads.
///
/// After an exhausted quota or a lost connection, one call is sent when the pause is over. Each answered call lets one
/// more be in flight, up to the maximum.
pub(super) struct Lane {
    max: usize,
    in_flight: usize,
    paused_until: Instant,
    /// The number of pauses so far.
    pauses: u64,
    /// The calls in flight that started after the latest pause, and their maximum.
    in_flight_since_pause: usize,
    max_since_pause: usize,
    /// The pauses since the last answer.
    failures: i32,
}

/// The start of a call in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallStart {
    time: Instant,
    pauses: u64,
}

/// The calls that a transient error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorScope {
    /// One call, for example because its device cannot be read.
    Call,
    /// All calls, because the server itself is not ready. A recall waits for it without a limit.
    Server,
    /// All calls, because the quota is exhausted or the connection is lost. A recall waits for both without a limit.
    QuotaOrConnection,
}

impl ErrorScope {
    pub(super) fn of(error: &ClientError) -> Self {
        if error.code() == Code::ResourceExhausted || error.exit() == Exit::Unreachable {
            Self::QuotaOrConnection
        } else if error.is_of_server() {
            Self::Server
        } else {
            Self::Call
        }
    }
}

impl CallStart {
    /// The time since the call was sent.
    pub(super) fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }
}

impl Lane {
    /// `max` is the maximum number of calls in flight.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            in_flight: 0,
            paused_until: Instant::now(),
            pauses: 0,
            in_flight_since_pause: 0,
            max_since_pause: max,
            failures: 0,
        }
    }

    /// Whether a call can start now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.paused_until <= now
            && self.in_flight < self.max
            && self.in_flight_since_pause < self.max_since_pause
    }

    /// The end of the pause; `None` without one.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        Some(self.paused_until).filter(|until| *until > now)
    }

    /// Counts a call that starts.
    pub(super) fn start(&mut self) -> CallStart {
        self.in_flight += 1;
        self.in_flight_since_pause += 1;
        CallStart { time: Instant::now(), pauses: self.pauses }
    }

    /// Ends a call that the server answered, also with an error about this call.
    pub(super) fn answered(&mut self, start: CallStart) {
        // An answer to an earlier call shows nothing about the state after the pause.
        if self.end(start) {
            self.failures = 0;
            self.max_since_pause = (self.max_since_pause + 1).min(self.max);
        }
    }

    /// Ends a call after a transient error, and pauses the lane if other calls would get the error too. `attempts` is
    /// the number of earlier errors of the call. Returns the pause before its next attempt.
    pub(super) fn failed(&mut self, error: &ClientError, start: CallStart, attempts: i32) -> Duration {
        let scope = ErrorScope::of(error);
        if scope == ErrorScope::Call {
            self.answered(start);
            return retry::pause(error, attempts);
        }
        let pause = retry::pause(error, attempts.max(self.failures));
        // The calls that were in flight together count as one failure.
        let is_first = self.end(start);
        let until = Instant::now() + if is_first { pause } else { retry::requested_pause(error) };
        if is_first {
            self.failures = self.failures.saturating_add(1);
            self.begin_pause(scope);
        }
        self.paused_until = self.paused_until.max(until);
        pause
    }

    /// Pauses this lane as long as another one that uses the same quota.
    pub(super) fn pause_with(&mut self, other: &Self) {
        if self.paused_until < other.paused_until {
            self.paused_until = other.paused_until;
            self.begin_pause(ErrorScope::QuotaOrConnection);
        }
    }

    fn begin_pause(&mut self, scope: ErrorScope) {
        self.pauses += 1;
        self.in_flight_since_pause = 0;
        if scope == ErrorScope::QuotaOrConnection {
            self.max_since_pause = 1;
        }
    }

    /// Counts the end of a call. Returns whether it started after the latest pause.
    fn end(&mut self, start: CallStart) -> bool {
        self.in_flight -= 1;
        let is_since_pause = start.pauses == self.pauses;
        if is_since_pause {
            self.in_flight_since_pause -= 1;
        }
        is_since_pause
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::operations::status::overloaded;

    fn error(status: Status) -> ClientError {
        ClientError::new(status, Exit::Failed)
    }

    /// Starts calls while the lane is open at `now`.
    fn start_all(lane: &mut Lane, now: Instant) -> Vec<CallStart> {
        std::iter::from_fn(|| lane.is_open(now).then(|| lane.start())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_follows_a_refusal_and_each_answer_allows_one_more() {
        let mut lane = Lane::new(4);
        let exhausted = error(Status::resource_exhausted("quota"));
        let starts = start_all(&mut lane, Instant::now());
        assert_eq!(starts.len(), 4);
        let pauses: Vec<_> = starts.into_iter().map(|start| lane.failed(&exhausted, start, 0)).collect();
        // A pause varies by a tenth. The calls that were in flight together lengthen it once.
        assert!((0.9..=1.0).contains(&pauses[0].as_secs_f64()), "{pauses:?}");
        let now = Instant::now();
        assert!(!lane.is_open(now));
        let until = lane.paused_until(now).unwrap();
        assert!(until <= now + Duration::from_secs(1));
        let probe = start_all(&mut lane, until);
        assert_eq!(probe.len(), 1);
        let second = lane.failed(&exhausted, probe[0], 0);
        assert!((1.35..=1.5).contains(&second.as_secs_f64()), "{second:?}");
        let until = lane.paused_until(Instant::now()).unwrap();
        let mut in_flight = start_all(&mut lane, until);
        for wanted in 2..=4 {
            assert_eq!(in_flight.len(), wanted - 1);
            lane.answered(in_flight.remove(0));
            in_flight.extend(start_all(&mut lane, until));
        }
        assert_eq!(in_flight.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_call_from_before_the_pause_does_not_end_it() {
        let mut lane = Lane::new(3);
        let starts = start_all(&mut lane, Instant::now());
        lane.failed(&ClientError::new(Status::unavailable("lost"), Exit::Unreachable), starts[0], 0);
        lane.answered(starts[1]);
        let until = lane.paused_until(Instant::now()).unwrap();
        // The third call is still in flight. It does not delay the next one.
        assert_eq!(start_all(&mut lane, until).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_one_call_does_not_pause_the_others() {
        let mut lane = Lane::new(2);
        let starts = start_all(&mut lane, Instant::now());
        // An error of Google that the server forwarded.
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let of_device = Status::with_error_details(Code::Unavailable, "one device", details);
        assert_eq!(lane.failed(&error(of_device), starts[0], 0), Duration::from_secs(7));
        assert_eq!(lane.paused_until(Instant::now()), None);
        lane.failed(&error(overloaded(Duration::from_secs(5))), starts[1], 0);
        let until = lane.paused_until(Instant::now()).unwrap();
        assert!(until > Instant::now() + Duration::from_secs(4));
        assert_eq!(start_all(&mut lane, until).len(), 2);
    }
}
