//! The budget of one Google project.

use std::{sync::Arc, time::Duration};

use super::{Class, settings::QuotaSettings};
use crate::{
    flight::Flight,
    telemetry::metrics::{QuotaMetrics, QuotaReading},
};

/// The budget of one Google project.
pub struct ProjectBudget {
    project: Arc<str>,
    metrics: QuotaMetrics,
}

/// A query that may be sent. Report Google's response to it.
#[derive(Debug)]
#[must_use]
pub struct Admitted {}

/// A query whose turn does not come before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The time until the turn would come.
    pub retry_after: Duration,
}

impl ProjectBudget {
    pub(super) fn new(project: Option<&Arc<str>>, settings: &QuotaSettings, metrics: &QuotaMetrics) -> Self {
        let _ = settings;
        Self { project: project.cloned().unwrap_or_default(), metrics: metrics.clone() }
    }

    /// The current values.
    pub(super) fn reading(&self) -> QuotaReading {
        QuotaReading { project: self.project.to_string(), ..QuotaReading::default() }
    }

    /// Waits for the turn of a query of this class for the callers of `flight`.
    ///
    /// # Errors
    ///
    /// The turn does not come before the deadline of the flight.
    pub async fn acquire(&self, class: Class, flight: &Flight) -> Result<Admitted, Refused> {
        let _ = (class, flight, &self.metrics);
        Ok(Admitted {})
    }
}

impl Admitted {
    /// Google refused the query for the project's quota. `retry_after` is its `Retry-After`.
    pub fn refused_by_google(self, retry_after: Option<Duration>) {
        let _ = retry_after;
    }

    /// Google answered the query, with a result or with another error.
    pub fn answered(self) {}
}
