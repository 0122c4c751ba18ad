//! Metrics of the audit log.

use prometheus_client::metrics::{
    MetricType, counter::Counter, family::MetricConstructor, histogram::Histogram,
};

use super::{
    observed::Observed,
    registry::{BucketBounds, Registry},
};

/// The bounds of batches, in lines.
const BATCHES: BucketBounds =
    BucketBounds(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]);

/// The metrics of the audit log. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    /// The lines that are not written yet.
    pub queued_lines: Observed<0>,
    /// The lines that a write takes.
    pub batch_lines: Histogram,
    /// Writes that failed.
    pub write_failures: Counter,
}

impl MetricConstructor<Histogram> for BucketBounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl AuditMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            queued_lines: registry.observed(
                "countermand_audit_queued_lines",
                "The lines of the audit log that are not written yet",
                MetricType::Gauge,
                [],
            ),
            batch_lines: registry.histogram(
                "countermand_audit_batch_lines",
                "The lines that are written to the audit log together",
                BATCHES,
            ),
            write_failures: registry.counter(
                "countermand_audit_write_failures_total",
                "The writes to the audit log that failed. A write is repeated until it succeeds",
            ),
        }
    }
}
