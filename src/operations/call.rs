//! The facts of a call that `server` hands to the five RPCs.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Status};

use super::status;
use crate::{
    audit::Record,
    caller::Caller,
    name::InvalidName,
    policy::{Denied, Permit, action::ActionType},
};

/// The most of the caller's time that is reserved, so that a response that is due at the deadline arrives before it.
const MARGIN: Duration = Duration::from_millis(250);

/// The facts of a call, in the extensions of its request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller.
    pub caller: Caller,
    /// When the call arrived.
    pub arrived: Instant,
    /// The caller's `grpc-timeout`, if there is one.
    pub timeout: Option<Duration>,
    /// The account for the audit log.
    pub record: Record,
}

impl Call {
    /// Splits a request into its call and its message. Without a call in its extensions, which `server` never sends,
    /// the caller is anonymous and has no deadline.
    pub(super) fn of<T>(mut request: Request<T>) -> (Self, T) {
        let call = request.extensions_mut().remove().unwrap_or_else(|| Self {
            caller: Caller::anonymous(),
            arrived: Instant::now(),
            timeout: None,
            record: Record::default(),
        });
        (call, request.into_inner())
    }

    /// Reads the name that the call is about.
    pub(super) fn name<N>(
        &self,
        given: String,
        parse: impl FnOnce(&str) -> Result<N, InvalidName>,
    ) -> Result<N, Status> {
        let name = parse(&given);
        self.record.set_name(given);
        name.map_err(|error| self.invalid(status::invalid_name(&error.to_string())))
    }

    /// The request is not what the method takes, as `status` says.
    pub(super) fn invalid(&self, status: Status) -> Status {
        self.record.invalid();
        status
    }

    /// What was decided of the call.
    pub(super) fn permit<A: ActionType>(
        &self,
        decided: Result<Permit<A>, Denied>,
    ) -> Result<Permit<A>, Status> {
        match decided {
            Ok(permit) => {
                self.record.allowed(permit.policies());
                Ok(permit)
            }
            Err(denied) => {
                self.record.denied(Some(denied.policies()));
                Err(status::denied())
            }
        }
    }

    /// When the answer is no longer waited for: at the caller's deadline, or when `limit` is over.
    #[must_use]
    pub fn deadline(&self, limit: Duration) -> Instant {
        self.arrived + self.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    /// When to answer whatever there is, so that it arrives in time: a little before the caller's deadline,
    /// or when `limit` is over.
    #[must_use]
    pub fn time_to_answer(&self, limit: Duration) -> Instant {
        let before = |timeout: Duration| timeout - MARGIN.min(timeout / 10);
        self.arrived + self.timeout.map_or(limit, |timeout| before(timeout).min(limit))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Call;
    use crate::{audit::Record, caller::Caller};

    const SECOND: Duration = Duration::from_secs(1);

    fn call(timeout: Option<Duration>) -> Call {
        Call { caller: Caller::anonymous(), arrived: Instant::now(), timeout, record: Record::default() }
    }

    #[test]
    fn the_smaller_time_counts() {
        let patient = call(None);
        assert_eq!(patient.deadline(30 * SECOND), patient.arrived + 30 * SECOND);
        let hasty = call(Some(SECOND));
        assert_eq!(hasty.deadline(30 * SECOND), hasty.arrived + SECOND);
        assert_eq!(hasty.deadline(SECOND / 2), hasty.arrived + SECOND / 2);
    }

    #[test]
    fn an_answer_that_is_due_comes_before_the_callers_deadline() {
        let call = call(Some(10 * SECOND));
        assert_eq!(call.time_to_answer(60 * SECOND), call.arrived + Duration::from_millis(9750));
        assert_eq!(call.time_to_answer(5 * SECOND), call.arrived + 5 * SECOND);
    }
}
