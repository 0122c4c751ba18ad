//! The lines about upstream calls in the operator's log.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use tracing::field::display;

use crate::{
    amapi::{error::Error, operator_error::OperatorError},
    flight::Flight,
    log_throttle::LogThrottle,
    name::{DeviceName, EnterpriseName},
    policy::{Action, Permit, action::List},
    telemetry::traces::Trace,
};

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
        if let Some(OperatorError { reason, hint }) = operator_error(error) {
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

    /// Logs the outcome of a query about one of the devices of a list, as [`Self::log`] does. A failure whose line would
    /// not be throttled is logged at debug, because a page of the list can have 100 failed devices. [`DeviceFailures`] has
    /// the line of the page.
    pub(super) fn log_device<T>(&self, permit: &Permit<List>, result: &Result<T, Error>, flight: &Flight) {
        let (resource, action) = (permit.resource(), permit.action());
        if let Err(error) = result
            && !is_throttled(error)
        {
            let (attempts, upstream_status) = (flight.attempts(), flight.upstream_status());
            let (credential, trace_id) = (flight.credential(), flight.trace().id.map(display));
            tracing::debug!(trace_id, %resource, ?action, attempts, upstream_status, credential, %error, "upstream call failed");
            return;
        }
        self.log(resource, action, result, flight);
    }

    /// As [`LogThrottle::permit`].
    fn permit(&self, subject: &str, reason: &'static str) -> Option<u64> {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        throttles.entry((subject.into(), reason)).or_default().permit()
    }
}

/// The error in Google's response that only the operator can correct.
fn operator_error(error: &Error) -> Option<OperatorError> {
    let Error::Response(response) = error else { return None };
    response.google.as_deref()?.operator_error()
}

/// Whether [`OutcomeLog::log`] limits the rate of this error's lines.
fn is_throttled(error: &Error) -> bool {
    matches!(error, Error::QuotaBudget { .. }) || operator_error(error).is_some()
}

/// The failed devices of one page of a list over all devices.
#[derive(Default)]
pub(super) struct DeviceFailures {
    count: usize,
    first: Option<(DeviceName, Error)>,
}

impl DeviceFailures {
    /// Adds the error of a device.
    pub(super) fn add(&mut self, device: &DeviceName, error: &Error) {
        self.count += 1;
        self.first.get_or_insert_with(|| (device.clone(), error.clone()));
    }

    /// Logs the number of the failed devices and the first error, if there are any.
    pub(super) fn log(&self, enterprise: &EnterpriseName, trace: &Trace) {
        let Self { count, first: Some((device, error)) } = self else { return };
        let (trace_id, enterprise) = (trace.id.map(display), enterprise.id());
        tracing::warn!(trace_id, enterprise, failed = count, %device, %error, "devices of a list cannot be read");
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
