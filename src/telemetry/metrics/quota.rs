//! Metrics of the quota of the Google projects, whose values the budgets keep.

use std::time::Duration;

use super::{
    observed::Observed,
    registry::{Label, Registry},
};

/// The decision on a query, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaDecision {
    /// The query was sent at once.
    Immediate,
    /// The query waited for its turn.
    Delayed,
    /// The query was refused, because its turn would not have come before its deadline.
    Refused,
    /// The query was dropped while it waited, or its deadline passed.
    Abandoned,
}

/// The values of `class`, in the order of `quota::Class`.
const CLASSES: [&str; 3] = ["cancel", "read", "poll"];

/// The values of `decision`, in the order of [`QuotaDecision`].
const DECISIONS: [&str; 4] = ["immediate", "delayed", "refused", "abandoned"];

/// The metrics of the quota. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct QuotaMetrics {
    decisions: Observed<3>,
}

/// The current values of one project's budget.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuotaReading {
    /// The id of the project. Empty if it is unknown.
    pub project: String,
    /// Whether the budget is in shadow mode.
    pub is_shadow: bool,
    /// The number of decisions, by class and by [`QuotaDecision`].
    pub decisions: [[u64; 4]; 3],
    /// The number of queries that Google refused for the quota.
    pub google_refusals: u64,
    /// The configured limit, in queries per period.
    pub limit: u32,
    /// The length of the window.
    pub period: Duration,
    /// The configured rate, in queries per second.
    pub configured_rate: f64,
    /// The rate at which this process, or all replicas together, may send now, in queries per second.
    pub rate: f64,
    /// The number of cancels that could be sent at once.
    pub available: f64,
    /// The number of queries that wait, by class.
    pub queued: [u64; 3],
    /// The time until reads and polls are admitted again after a refusal by Google.
    pub hold: Duration,
    /// The number of replicas that share the budget. `None` if the budget is not shared.
    pub replicas: Option<u32>,
    /// Whether the shared budget is away, so that this process uses its part of the rate.
    pub is_away: bool,
}

impl QuotaMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            decisions: registry.observed(
                "countermand_quota_queries_total",
                "The queries that asked for their turn",
                prometheus_client::metrics::MetricType::Counter,
                [
                    Label::described("project", "the id of the Google project, `\"\"` if it is unknown"),
                    Label::one_of("class", &CLASSES),
                    Label::one_of("decision", &DECISIONS),
                ],
            ),
        }
    }

    /// Metrics that are in no registry.
    #[must_use]
    pub fn unregistered() -> Self {
        Self::new(&mut Registry::default())
    }

    /// Sets the function that reads the budgets, whenever the metrics are written.
    pub fn read_with(&self, read: impl Fn() -> Vec<QuotaReading> + Clone + Send + Sync + 'static) {
        self.decisions.read_with(move || {
            let mut series = Vec::new();
            for QuotaReading { project, decisions, .. } in read() {
                for (class, counts) in CLASSES.iter().zip(decisions) {
                    for (decision, count) in DECISIONS.iter().zip(counts) {
                        let labels = [project.clone(), (*class).to_owned(), (*decision).to_owned()];
                        series.push((labels, count as f64));
                    }
                }
            }
            series
        });
    }
}
