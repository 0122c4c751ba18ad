//! The turn of a query in the budget of its Google project, and the report of Google's response to the budget.

use std::{pin::pin, sync::Arc, task::Poll};

use reqwest::Method;

use super::{
    error::Error,
    retry::{FailedAttempt, Next},
};
use crate::{
    flight::Flight,
    proto::otlp::trace::span::SpanKind,
    quota::{Admitted, Class, Quota, Refused},
    telemetry::traces::Span,
};

/// A query whose turn has come.
#[must_use]
pub(super) struct Turn {
    /// `None` if the project has no budget.
    admitted: Option<Admitted>,
    /// Whether the query waited.
    pub(super) has_waited: bool,
}

impl Turn {
    /// Waits for the turn of a query with this method, for the callers of `flight`. `project` is the Google project of the
    /// credential. A read ends its wait when all its callers have left, because it has no effect.
    ///
    /// # Errors
    ///
    /// [`Error::QuotaBudget`] and [`Error::Abandoned`].
    pub(super) async fn wait(
        quota: &Quota,
        project: Option<Arc<str>>,
        method: &Method,
        flight: &Flight,
    ) -> Result<Self, FailedAttempt> {
        let Some(budget) = quota.budget(project.as_ref()) else {
            return Ok(Self { admitted: None, has_waited: false });
        };
        let exceeded = |Refused { retry_after }| {
            stopped(Error::QuotaBudget { retry_after, project: project.unwrap_or_default() })
        };
        let class = class(method, flight);
        let mut turn = pin!(budget.acquire(class, flight));
        if let Poll::Ready(result) = futures_util::poll!(turn.as_mut()) {
            return Ok(Self { admitted: Some(result.map_err(exceeded)?), has_waited: false });
        }
        let span = flight.trace().child(SpanKind::Internal, "quota").map(|span| span.or_fail("abandoned"));
        let result = tokio::select! {
            result = turn => result,
            () = flight.abandoned(), if class != Class::Cancel => return Err(stopped(Error::Abandoned)),
        };
        match result {
            Ok(admitted) => {
                span.into_iter().for_each(Span::succeed);
                Ok(Self { admitted: Some(admitted), has_waited: true })
            }
            Err(refused) => {
                span.into_iter().for_each(|span| span.fail("quota_budget"));
                Err(exceeded(refused))
            }
        }
    }

    /// Whether the project has a budget.
    pub(super) fn is_paced(&self) -> bool {
        self.admitted.is_some()
    }

    /// Reports to the budget that the request got a response with this status, from which `result` was made.
    pub(super) fn report<T>(self, http_status: u16, result: &Result<T, FailedAttempt>) {
        let Some(admitted) = self.admitted else { return };
        match result.as_ref().map_err(|failed| &failed.error) {
            Err(Error::Response(response)) if response.is_quota_refusal() => {
                admitted.refused_by_google(response.quota_hold());
            }
            // The body of the refusal was lost.
            Err(_) if http_status == 429 => admitted.refused_by_google(None),
            Ok(_) => admitted.answered(),
            // Google looked at the request, so it has quota left.
            Err(Error::Response(_)) if matches!(http_status, 400..=499) && http_status != 408 => {
                admitted.answered();
            }
            // A failing or another server answered, or Google rejected the token. This says nothing of the quota.
            Err(_) => {}
        }
    }
}

fn class(method: &Method, flight: &Flight) -> Class {
    if method == Method::POST {
        Class::Cancel
    } else if flight.is_poll() {
        Class::Poll
    } else {
        Class::Read
    }
}

fn stopped(error: Error) -> FailedAttempt {
    FailedAttempt { error, next: Next::Stop }
}
