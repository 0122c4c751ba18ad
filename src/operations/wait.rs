//! WaitOperation: one waiter.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    latest::{Latest, may_pass},
    poll::Pollers,
};
use crate::{
    amapi::{Api, error::Error},
    policy::{Permit, act::Get},
    proto::longrunning::Operation,
};

/// The state of the operation when it is done, or the latest one at `end`, or when the server drains; `first`
/// is what was found when the wait began.
pub(super) async fn wait<A: Api>(
    first: Result<Arc<Operation>, Error>,
    pollers: &Pollers<A>,
    permit: Permit<Get>,
    end: Instant,
) -> Result<Arc<Operation>, Error> {
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
