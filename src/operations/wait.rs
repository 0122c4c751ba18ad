//! WaitOperation: one waiter.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tonic::Code;

use super::{code, poll::Pollers, states::States};
use crate::{
    amapi::{Api, error::Error},
    name::OperationName,
    policy::Permit,
    proto::longrunning::Operation,
};

/// What is known of an awaited operation, as its poller tells all who wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest {
    /// The latest state that was seen.
    pub(super) state: Option<Arc<Operation>>,
    /// How the latest question failed; none when it did not.
    pub(super) failure: Option<Error>,
    /// Nothing more will come: the operation is done, the failure will not pass, or the server drains.
    pub(super) is_last: bool,
}

impl Latest {
    /// The answer when the time is over: the latest state, else why there is none.
    fn answer(&self) -> Result<Arc<Operation>, Error> {
        match (&self.state, &self.failure) {
            (_, Some(failure)) if self.is_last && !may_pass(failure) => Err(failure.clone()),
            (Some(state), _) => Ok(Arc::clone(state)),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => {
                Err(Error::DeadlineExceeded { while_doing: "before the operation's state was known" })
            }
        }
    }
}

/// The state of the operation when it is done, or the latest one at `end`, or when the server drains.
pub(super) async fn wait<A: Api>(
    states: &States<A>,
    pollers: &Pollers<A>,
    permit: Permit<OperationName>,
    end: Instant,
) -> Result<Arc<Operation>, Error> {
    let first = states.get(&permit, end).await;
    match &first {
        Ok(operation) if operation.done => return first,
        Err(error) if !may_pass(error) => return first,
        _ => {}
    }
    let mut latest = pollers.watch(permit, &first);
    let last = latest.wait_for(|latest| latest.is_last);
    if let Ok(Ok(last)) = timeout_at(end, last).await {
        return last.answer();
    }
    seen(&latest)
}

fn seen(latest: &watch::Receiver<Latest>) -> Result<Arc<Operation>, Error> {
    latest.borrow().answer()
}

/// Whether asking again later may go better: what is true of the operation, of our rights or of the
/// upstream's form stays true; quotas, tokens, networks and servers recover.
pub(super) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Answered(answer) => matches!(
            code::of(answer),
            Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::Internal
                | Code::Unknown
        ),
        Error::CredentialUnavailable { .. } | Error::Unreachable { .. } | Error::DeadlineExceeded { .. } => {
            true
        }
        Error::CredentialRejected(_) | Error::Malformed { .. } | Error::NotHttp { .. } | Error::Lost => false,
    }
}

/// The wait that a request's `timeout` allows; none when it has none.
///
/// # Errors
///
/// It is negative, or no duration at all.
pub(super) fn allowed(timeout: Option<&prost_types::Duration>) -> Result<Option<Duration>, ()> {
    let Some(timeout) = timeout else { return Ok(None) };
    let seconds = u64::try_from(timeout.seconds).map_err(|_| ())?;
    let nanos = u32::try_from(timeout.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or(())?;
    Ok(Some(Duration::new(seconds, nanos)))
}
