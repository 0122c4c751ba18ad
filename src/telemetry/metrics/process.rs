//! Metrics of the process, by the conventions of Prometheus' clients.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeValLike,
};
use prometheus_client::metrics::MetricType::{Counter, Gauge};

use super::{
    observed::Observed,
    registry::{Label, Registry},
};

/// The metrics of the process that a component reads.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// Whether calls are served: 1 or 0.
    pub ready: Observed<0>,
}

impl ProcessMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let ready = registry.observed(
            "countermand_ready",
            "1 while calls are served: there is a valid token, and no drain. Otherwise 0",
            Gauge,
            [],
        );
        let build_info = registry.observed(
            "countermand_build_info",
            "1, with the version of this program",
            Gauge,
            [Label::described("version", "the version")],
        );
        build_info.read_with(|| vec![([env!("CARGO_PKG_VERSION").to_owned()], 1.0)]);
        system_metrics(registry);
        Self { ready }
    }
}

/// Registers the metrics that the system keeps. A value that cannot be read, for example without `/proc`, is absent.
fn system_metrics(registry: &mut Registry) {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let mut observe = |name, help, metric_type, read: fn() -> Option<f64>| {
        let observed: Observed<0> = registry.observed(name, help, metric_type, []);
        observed.read_with(move || read().map(|value| ([], value)).into_iter().collect());
    };
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        Some((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
    };
    observe("process_cpu_seconds_total", "The CPU time of the process", Counter, cpu);
    observe("process_resident_memory_bytes", "The memory of the process that is in RAM", Gauge, || {
        kibibytes("VmRSS")
    });
    observe("process_virtual_memory_bytes", "The virtual memory of the process", Gauge, || {
        kibibytes("VmSize")
    });
    observe("process_open_fds", "The open file descriptors", Gauge, || {
        // One entry is the descriptor of the directory itself.
        Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
    });
    observe("process_max_fds", "The maximum of open file descriptors", Gauge, || {
        getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64)
    });
    observe("process_threads", "The threads of the process", Gauge, || status("Threads")?.parse().ok());
    let start: Observed<0> = registry.observed(
        "process_start_time_seconds",
        "The time of the start of the service, in seconds since 1970",
        Gauge,
        [],
    );
    start.read_value_with(move || started);
}

fn kibibytes(key: &str) -> Option<f64> {
    let value: f64 = status(key)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(value * 1024.0)
}

/// A value of `/proc/self/status` (proc(5)).
fn status(key: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}
