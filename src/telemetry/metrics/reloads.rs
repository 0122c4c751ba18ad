//! Metrics of files that are reloaded when they change.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::registry::{Label, Registry};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadKind {
    /// The configuration file.
    Configuration,
    /// A file of a credential.
    Credential,
    /// The policy.
    Policy,
    /// The server's certificate, its key and the CA of its clients.
    Tls,
    /// CA certificates that are trusted in addition to the public ones.
    Authorities,
    /// The keys of the callers' token issuer.
    Jwks,
    /// The password of the shared quota store.
    QuotaShared,
}

/// The values of `kind`, in the order of [`ReloadKind`].
const KINDS: [&str; 7] =
    ["configuration", "credential", "policy", "tls", "authorities", "jwks", "quota_shared"];

/// The metrics of reloads. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct ReloadMetrics(Arc<[KindMetrics; KINDS.len()]>);

#[derive(Debug)]
struct KindMetrics {
    successes: Counter,
    failures: Counter,
    is_failing: Gauge,
    /// The number of files whose newest version is refused.
    failing: AtomicI64,
}

/// Counts the reloads of one file, or of files that are reloaded together.
#[derive(Debug)]
pub struct ReloadCounter {
    metrics: ReloadMetrics,
    kind: ReloadKind,
    is_failing: bool,
}

impl ReloadMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let reloads = registry.counters(
            "countermand_reloads_total",
            "The new versions of files that were reloaded, or refused. For jwks, also the fetches from a URL",
            [Label::one_of("kind", &KINDS), Label::one_of("outcome", &["success", "failure"])],
        );
        let failing = registry.gauges(
            "countermand_reload_failing",
            "1 while the newest version of a file is refused and an older one is active, otherwise 0",
            Label::one_of("kind", &KINDS),
        );
        Self(Arc::new(KINDS.map(|kind| KindMetrics {
            successes: reloads.with([kind, "success"]),
            failures: reloads.with([kind, "failure"]),
            is_failing: failing.with(kind),
            failing: AtomicI64::new(0),
        })))
    }

    /// Metrics that are in no registry.
    #[must_use]
    pub fn unregistered() -> Self {
        Self::new(&mut Registry::default())
    }

    /// A counter for one file.
    #[must_use]
    pub fn of(&self, kind: ReloadKind) -> ReloadCounter {
        ReloadCounter { metrics: self.clone(), kind, is_failing: false }
    }
}

impl ReloadCounter {
    /// The newest version of the file is active.
    pub fn succeeded(&mut self) {
        self.metrics().successes.inc();
        self.set_failing(false);
    }

    /// The newest version of the file is refused.
    pub fn failed(&mut self) {
        self.metrics().failures.inc();
        self.set_failing(true);
    }

    /// The file has the content of the active version again.
    pub fn reverted(&mut self) {
        self.set_failing(false);
    }

    fn metrics(&self) -> &KindMetrics {
        &self.metrics.0[self.kind as usize]
    }

    fn set_failing(&mut self, is_failing: bool) {
        let change = i64::from(is_failing) - i64::from(self.is_failing);
        self.is_failing = is_failing;
        let metrics = self.metrics();
        let failing = metrics.failing.fetch_add(change, Ordering::Relaxed) + change;
        metrics.is_failing.set(i64::from(failing > 0));
    }
}

impl Drop for ReloadCounter {
    fn drop(&mut self) {
        // The file is no longer in use.
        self.set_failing(false);
    }
}

#[cfg(test)]
mod tests {
    use super::{ReloadKind, ReloadMetrics};

    #[test]
    fn a_kind_is_failing_while_one_of_its_files_is_refused() {
        let metrics = ReloadMetrics::unregistered();
        let failing = || metrics.0[ReloadKind::Credential as usize].is_failing.get();
        let (mut one, mut two) = (metrics.of(ReloadKind::Credential), metrics.of(ReloadKind::Credential));
        assert_eq!(failing(), 0);
        one.failed();
        one.failed();
        two.failed();
        one.succeeded();
        assert_eq!(failing(), 1, "the second file is refused");
        two.reverted();
        assert_eq!(failing(), 0);
        one.failed();
        drop(one);
        assert_eq!(failing(), 0);
        let kind = &metrics.0[ReloadKind::Credential as usize];
        assert_eq!((kind.successes.get(), kind.failures.get()), (1, 4));
    }
}
