//! Metrics of shared calls, of the cache of operations and of polling.

use prometheus_client::metrics::{MetricType, counter::Counter};

use super::{
    observed::Observed,
    registry::{Label, Registry},
};

/// The metrics of reads, waits and shared calls. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct OperationMetrics {
    /// CancelOperation calls that joined the upstream call of another.
    pub shared_cancels: Counter,
    /// GetOperation and WaitOperation calls that joined the upstream call of another.
    pub shared_gets: Counter,
    /// States that were read from the cache.
    pub cache_hits: Counter,
    /// The cached states.
    pub cache_entries: Observed<0>,
    /// The devices that are polled.
    pub pollers: Observed<0>,
    /// The calls that wait for a poller.
    pub waiters: Observed<0>,
    /// Reports of the guard.
    pub guard_triggered: Counter,
    polls: [Counter; 2],
}

impl OperationMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let shared = registry.counters(
            "countermand_shared_calls_total",
            "The calls that joined the upstream call of another call, by the method of the upstream call. A \
             WaitOperation begins with a get",
            [Label::one_of(
                "rpc_method",
                &[
                    "google.longrunning.Operations/CancelOperation",
                    "google.longrunning.Operations/GetOperation",
                ],
            )],
        );
        let cache_hits = registry.counter(
            "countermand_cache_hits_total",
            "The calls of GetOperation and WaitOperation that were served from the cache of operations",
        );
        let mut gauge = |name, help| registry.observed(name, help, MetricType::Gauge, []);
        let cache_entries = gauge("countermand_cache_entries", "The operations in the cache");
        let pollers = gauge("countermand_pollers", "The devices that are polled for WaitOperation");
        let waiters = gauge("countermand_waiters", "The calls of WaitOperation that wait for a poller");
        let polls = registry.counters(
            "countermand_polls_total",
            "The upstream calls of pollers, with their retries",
            [Label::one_of("outcome", &["success", "failure"])],
        );
        let guard_triggered = registry.counter(
            "countermand_guard_triggered_total",
            "The times that the pending WIPEs of an enterprise exceeded guard.pending_wipes, and that their number doubled \
             afterwards. The log names the enterprise. The guard counts only operations that a get, a list or a poll of \
             this process showed. Without [guard], it counts none",
        );
        Self {
            shared_cancels: shared.with(["google.longrunning.Operations/CancelOperation"]),
            shared_gets: shared.with(["google.longrunning.Operations/GetOperation"]),
            cache_hits,
            cache_entries,
            pollers,
            waiters,
            guard_triggered,
            polls: ["success", "failure"].map(|outcome| polls.with([outcome])),
        }
    }

    /// Counts an upstream call of a poller.
    pub fn count_poll<T, E>(&self, result: &Result<T, E>) {
        self.polls[usize::from(result.is_err())].inc();
    }
}
