//! The lines about upstream calls in the operator's log.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use tracing::field::display;

use crate::{amapi::error::Error, flight::Flight, log_throttle::LogThrottle, policy::Action};

/// The throttle of an exceeded budget.
const QUOTA_BUDGET: &str = "QUOTA_BUDGET";

/// Logs the outcome of each upstream call.
#[derive(Default)]
pub(super) struct OutcomeLog {
    /// By the credential and Google's reason, and by the project and [`QUOTA_BUDGET`].
    throttles: Mutex<HashMap<(Box<str>, &'static str), LogThrottle>>,
}

impl OutcomeLog {
    /// Logs an outcome, once for all callers that share the call. The level is `warn` when the operator may have to
    /// act. An error that only the operator can correct fails every call, and an exceeded budget may, so their lines are
    /// throttled.
    pub(super) fn log<T>(
        &self,
        resource: &impl Display,
        action: Action,
        result: &Result<T, Error>,
        flight: &Flight,
    ) {
        let (attempts, upstream_status) = (flight.attempts(), flight.upstream_status());
        let (credential, trace_id) = (flight.credential(), flight.trace().id.map(display));
        let error = match result {
            Ok(_) => {
                tracing::debug!(trace_id, %resource, ?action, attempts, upstream_status, credential, "upstream call completed");
                return;
            }
            Err(error) => error,
        };
        if let Error::QuotaBudget { project, .. } = error {
            if let Some(suppressed) = self.permit(project, QUOTA_BUDGET) {
                tracing::warn!(trace_id, %project, suppressed, %resource, ?action, credential, %error, "the budget of a project's quota has no query for a call before its deadline");
            }
            return;
        }
        if let Error::Abandoned = error {
            tracing::debug!(trace_id, %resource, ?action, credential, %error, "upstream call dropped");
            return;
        }
        if let Error::UrlTooLong { .. } | Error::NotBuilt { .. } = error {
            tracing::info!(trace_id, %resource, ?action, %error, "the request of a caller cannot be sent");
            return;
        }
        let Error::Response(response) = error else {
            tracing::warn!(trace_id, %resource, ?action, attempts, upstream_status, credential, %error, "upstream call failed");
            return;
        };
        if let Some(operator) = response.google.as_deref().and_then(|google| google.operator_error()) {
            let (reason, hint) = (operator.reason, operator.hint);
            if let Some(suppressed) = self.permit(credential.unwrap_or_default(), reason) {
                tracing::warn!(
                    trace_id, credential, reason, hint, suppressed, %resource, ?action, attempts, %error,
                    "Google refuses the calls of a credential until an operator acts"
                );
            }
        } else if response.http_status < 500 {
            tracing::info!(trace_id, %resource, ?action, attempts, credential, %error, "Google rejected an upstream call");
        } else {
            tracing::warn!(trace_id, %resource, ?action, attempts, upstream_status, credential, %error, "upstream call failed");
        }
    }

    /// As [`LogThrottle::permit`].
    fn permit(&self, subject: &str, reason: &'static str) -> Option<u64> {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        throttles.entry((subject.into(), reason)).or_default().permit()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::OutcomeLog;

    #[tokio::test(start_paused = true)]
    async fn each_reason_of_each_credential_has_a_line_every_10_seconds() {
        let log = OutcomeLog::default();
        for (credential, reason) in [("one", "A"), ("one", "B"), ("other", "A")] {
            assert_eq!(log.permit(credential, reason), Some(0), "{credential} {reason}");
            assert_eq!(log.permit(credential, reason), None, "{credential} {reason}");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(log.permit("one", "A"), Some(1));
        assert_eq!(log.permit("one", "A"), None);
    }
}
