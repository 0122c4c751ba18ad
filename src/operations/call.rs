//! The facts of a call that `server` passes to the five RPCs.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Status};
use tracing::field::display;

use super::status;
use crate::{
    audit::Record,
    caller::Caller,
    name::InvalidName,
    policy::{Permit, Policy, action::ActionType},
    proto::otlp::trace::span::SpanKind,
};

/// The maximum time before the caller's deadline at which a wait ends, so that its response arrives in time.
const MAX_MARGIN: Duration = Duration::from_millis(250);

/// The facts of a call, in the extensions of its request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller.
    pub caller: Caller,
    /// The arrival time.
    pub arrived: Instant,
    /// The caller's `grpc-timeout`, if there is one.
    pub timeout: Option<Duration>,
    /// The record for the audit log.
    pub record: Record,
}

impl Call {
    /// Splits a request into its call and its message. `server` always adds a call to the extensions. Otherwise the
    /// caller is anonymous and has no deadline.
    pub(super) fn from_request<T>(mut request: Request<T>) -> (Self, T) {
        let call = request.extensions_mut().remove().unwrap_or_else(|| Self {
            caller: Caller::anonymous(),
            arrived: Instant::now(),
            timeout: None,
            record: Record::default(),
        });
        (call, request.into_inner())
    }

    /// Parses and records the resource name.
    pub(super) fn parse_name<N>(
        &self,
        given: String,
        parse: impl FnOnce(&str) -> Result<N, InvalidName>,
    ) -> Result<N, Status> {
        let name = parse(&given);
        self.record.set_name(given);
        name.map_err(|error| self.invalid(status::invalid_name(&error.to_string())))
    }

    /// Records that the request is invalid, and returns `status`.
    pub(super) fn invalid(&self, status: Status) -> Status {
        self.record.invalid();
        status
    }

    /// Records the decision of `policy`, and returns the permit or PERMISSION_DENIED.
    pub(super) fn permit<A: ActionType>(
        &self,
        policy: &Policy,
        resource: A::Resource,
    ) -> Result<Permit<A>, Status> {
        let span = self.record.trace().child(SpanKind::Internal, "policy");
        let decision = policy.decide::<A>(&self.caller, resource);
        drop(span);
        match decision {
            Ok(permit) => {
                let (caller, trace_id) = (&self.caller, self.record.trace().id.map(display));
                tracing::trace!(trace_id, %caller, action = ?permit.action(), resource = %permit.resource(), "permitted");
                self.record.allowed(permit.policies(), permit.would_deny());
                Ok(permit)
            }
            Err(denied) => {
                self.record.denied(Some(denied.policies()));
                Err(status::denied())
            }
        }
    }

    /// The permits for the permitted parts of the call. Records if `policy` is in shadow mode and would deny a part.
    pub(super) fn permit_parts<A: ActionType>(
        &self,
        policy: &Policy,
        parts: impl IntoIterator<Item = A::Resource>,
    ) -> Vec<Permit<A>> {
        let permits = policy.decide_parts::<A>(&self.caller, parts);
        if permits.iter().any(|permit| permit.would_deny() == Some(true)) {
            self.record.would_deny_part();
        }
        permits
    }

    /// The deadline: the caller's deadline, or `limit` after the arrival if that is earlier.
    #[must_use]
    pub fn deadline(&self, limit: Duration) -> Instant {
        self.arrived + self.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    /// The time at which a wait returns the latest state: a margin before the caller's deadline, or `limit` after
    /// the arrival if that is earlier.
    #[must_use]
    pub fn wait_end(&self, limit: Duration) -> Instant {
        let before = |timeout: Duration| timeout - MAX_MARGIN.min(timeout / 10);
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
    fn the_earlier_deadline_applies() {
        let without_timeout = call(None);
        assert_eq!(without_timeout.deadline(30 * SECOND), without_timeout.arrived + 30 * SECOND);
        let with_timeout = call(Some(SECOND));
        assert_eq!(with_timeout.deadline(30 * SECOND), with_timeout.arrived + SECOND);
        assert_eq!(with_timeout.deadline(SECOND / 2), with_timeout.arrived + SECOND / 2);
    }

    #[test]
    fn a_wait_ends_before_the_callers_deadline() {
        let call = call(Some(10 * SECOND));
        assert_eq!(call.wait_end(60 * SECOND), call.arrived + Duration::from_millis(9750));
        assert_eq!(call.wait_end(5 * SECOND), call.arrived + 5 * SECOND);
    }
}
