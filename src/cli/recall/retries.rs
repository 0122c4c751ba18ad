//! The calls that are repeated after a transient error.

use std::{collections::BTreeMap, time::Duration};

use super::lane::{CallStart, ErrorScope, Lane};
use crate::cli::error::ClientError;

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallKind {
    Cancel,
    List,
    Confirmation,
}

/// The calls that failed and have no answer yet.
pub(super) struct Retries {
    /// How long a call is repeated after errors that are about this call.
    timeout: Duration,
    /// By kind and name.
    calls: BTreeMap<(CallKind, String), FailedCall>,
}

/// The failed attempts of a call since its last answer.
#[derive(Default)]
struct FailedCall {
    attempts: i32,
    /// The time of the pauses and attempts since the first error that counts. The time in which the lane waits does not
    /// belong to it.
    spent: Option<Duration>,
    error: String,
}

impl Retries {
    /// `timeout` is the time for which a call is repeated after errors that are about this call.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, calls: BTreeMap::new() }
    }

    /// Forgets a call that was answered or given up.
    pub(super) fn remove(&mut self, kind: CallKind, name: &str) {
        if !self.calls.is_empty() {
            self.calls.remove(&(kind, name.to_owned()));
        }
    }

    /// Records a transient error. Returns the pause before the next attempt; `None` if the time is over. Only the errors
    /// that are about this call count.
    pub(super) fn failed(
        &mut self,
        kind: CallKind,
        name: &str,
        lane: &mut Lane,
        start: CallStart,
        error: &ClientError,
    ) -> Option<Duration> {
        let call = self.calls.entry((kind, name.to_owned())).or_default();
        let mut pause = lane.failed(error, start, call.attempts);
        if ErrorScope::of(error) == ErrorScope::Call {
            let spent = call.spent.map_or(Duration::ZERO, |spent| spent + start.elapsed());
            if spent >= self.timeout {
                return None;
            }
            // The last attempt is made when the time is over.
            pause = pause.min(self.timeout - spent);
            call.spent = Some(spent + pause);
        }
        call.attempts = call.attempts.saturating_add(1);
        call.error = error.line();
        Some(pause)
    }

    /// The error of a call that is repeated.
    pub(super) fn error(&self, kind: CallKind, name: &str) -> Option<&str> {
        self.calls.get(&(kind, name.to_owned())).map(|call| &*call.error)
    }

    /// The number of the calls and one of their errors; `None` without calls.
    pub(super) fn line(&self) -> Option<String> {
        let ((_, name), call) = self.calls.first_key_value()?;
        let calls = match self.calls.len() {
            1 => "1 call".to_owned(),
            count => format!("{count} calls"),
        };
        Some(format!("retrying {calls}: {name}: {}", call.error))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;
    use crate::{
        cli::exit::Exit,
        operations::status::{overloaded, shutting_down},
    };

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_until_the_time_is_over() {
        let (mut lane, mut retries) = (Lane::new(1), Retries::new(Duration::from_secs(10)));
        let unavailable = ClientError::new(Status::unavailable("bad device"), Exit::Failed);
        let lost = ClientError::new(Status::unavailable("lost"), Exit::Unreachable);
        let exhausted = ClientError::new(Status::resource_exhausted("quota"), Exit::Failed);
        let overloaded = ClientError::new(overloaded(Duration::from_secs(5)), Exit::Failed);
        let shutting_down = ClientError::new(shutting_down(), Exit::Failed);
        let mut fail = async |error, call: Duration| {
            let start = lane.start();
            tokio::time::sleep(call).await;
            let pause = retries.failed(CallKind::Cancel, "n", &mut lane, start, error);
            tokio::time::sleep(pause.unwrap_or_default()).await;
            pause
        };
        // The time of the first attempt does not count.
        let mut spent = fail(&unavailable, Duration::from_secs(30)).await.unwrap();
        for error in [&lost, &exhausted, &overloaded, &shutting_down] {
            assert!(fail(error, Duration::from_secs(3600)).await.is_some());
        }
        while let Some(pause) = fail(&unavailable, Duration::from_secs(1)).await {
            spent += Duration::from_secs(1) + pause;
        }
        // The last attempt starts at most at the end of the time, and takes a second.
        let spent = spent.as_secs_f64();
        assert!((8.99..10.01).contains(&spent), "{spent}");
    }

    #[test]
    fn the_line_has_the_number_and_one_error() {
        let (mut lane, mut retries) = (Lane::new(2), Retries::new(Duration::from_secs(1)));
        assert_eq!(retries.line(), None);
        let error = ClientError::new(Status::unavailable("one"), Exit::Failed);
        let start = lane.start();
        retries.failed(CallKind::List, "d1", &mut lane, start, &error);
        assert_eq!(retries.line().as_deref(), Some("retrying 1 call: d1: UNAVAILABLE: one"));
        let start = lane.start();
        retries.failed(CallKind::Cancel, "d1/operations/1", &mut lane, start, &error);
        let wanted = "retrying 2 calls: d1/operations/1: UNAVAILABLE: one";
        assert_eq!(retries.line().as_deref(), Some(wanted));
        retries.remove(CallKind::Cancel, "d1/operations/1");
        retries.remove(CallKind::List, "d1");
        assert_eq!(retries.line(), None);
    }
}
