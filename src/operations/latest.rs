//! What those who wait for an operation are told.

use std::sync::Arc;

use tonic::Code;

use super::status;
use crate::{amapi::error::Error, proto::longrunning::Operation};

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
    pub(super) fn answer(&self) -> Result<Arc<Operation>, Error> {
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

/// Whether asking again later may go better: what is true of the operation, of our rights or of the
/// upstream's form stays true; quotas, tokens, networks and servers recover.
pub(super) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Answered(answer) => matches!(
            status::code_of(answer),
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
        Error::NoCredential
        | Error::CredentialRejected(_)
        | Error::Malformed { .. }
        | Error::NotHttp { .. }
        | Error::Lost => false,
    }
}
