//! What is known of a call before its message is read.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Request;

use crate::caller::Caller;

/// A call, as the server's layers hand it on in the request's extensions.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// When its answer is no longer waited for: the smaller of `grpc-timeout` and `upstream.timeout`, from
    /// when the call arrived.
    pub deadline: Instant,
}

impl Call {
    /// The call that `request` is part of. One that came past no layer is anonymous and has
    /// `upstream_timeout`.
    pub(super) fn of<T>(request: &Request<T>, upstream_timeout: Duration) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self {
            caller: Caller::Anonymous,
            deadline: Instant::now() + upstream_timeout,
        })
    }
}
