//! Metrics of the quota of the Google projects. The budgets keep most of the values.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::metrics::{
    MetricType::{Counter as CounterType, Gauge as GaugeType},
    counter::Counter,
    family::Family,
    histogram::Histogram,
};
use tokio::time::Instant;

use super::{
    observed::Observed,
    registry::{BucketBounds, Label, Registry, SeriesLabels},
};
use crate::telemetry::history::QuotaHistory;

/// The decision on a query, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaDecision {
    /// The query was sent at once.
    Immediate,
    /// The query waited for its turn.
    Delayed,
    /// The query was refused, because its turn would not have come before its deadline.
    Refused,
    /// The query was dropped while it waited, because its caller ended the call.
    Abandoned,
}

/// The outcome of a call to the shared store of the budgets, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedCallOutcome {
    /// The store answered in time.
    Success,
    /// The store did not answer in time.
    Timeout,
    /// The store answered with an error, or there is no connection to it.
    Error,
}

/// The values of `class`, in the order of `quota::Class`.
const CLASSES: [&str; 3] = ["cancel", "read", "poll"];

/// The values of `decision`, in the order of [`QuotaDecision`].
const DECISIONS: [&str; 4] = ["immediate", "delayed", "refused", "abandoned"];

/// The values of `outcome`, in the order of [`SharedCallOutcome`].
const OUTCOMES: [&str; 3] = ["success", "timeout", "error"];

/// The bounds for the time that queries wait. The longest deadline of a query is a minute by default.
const WAITS: BucketBounds =
    BucketBounds(&[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0]);

/// The bounds for calls to the shared store, which may take 50 ms.
const SHARED_CALLS: BucketBounds =
    BucketBounds(&[0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1]);

/// The metrics of the quota. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct QuotaMetrics {
    readings: Arc<OnceLock<ReadBudgets>>,
    decisions: Observed<3>,
    waits: Family<SeriesLabels<1>, Histogram, BucketBounds>,
    queued: Observed<2>,
    limit: Observed<1>,
    period: Observed<1>,
    shadow: Observed<1>,
    configured_rate: Observed<1>,
    rate: Observed<1>,
    available: Observed<1>,
    hold: Observed<1>,
    google_refusals: Observed<1>,
    replicas: Observed<1>,
    /// 1 while the shared store of the budgets is in use, 0 while it is away. It has no value without a shared store.
    pub shared_up: Observed<0>,
    shared_calls: [Counter; 3],
    shared_durations: Histogram,
    /// The last minutes.
    pub history: Arc<QuotaHistory>,
}

/// Reads the budgets.
struct ReadBudgets(Box<dyn Fn() -> Vec<QuotaReading> + Send + Sync>);

/// The current values of one project's budget.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuotaReading {
    /// The id of the project. Empty if it is unknown.
    pub project: String,
    /// Whether the budget is in shadow mode.
    pub is_shadow: bool,
    /// The number of decisions since the start, by class and by [`QuotaDecision`].
    pub decisions: [[u64; 4]; 3],
    /// The number of queries that Google refused for the quota, since the start.
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
    /// Whether the shared store is away, so that this process uses its part of the rate.
    pub is_away: bool,
}

impl QuotaMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let project = || Label::described("project", "the id of the Google project, `\"\"` if it is unknown");
        let class = || Label::one_of("class", &CLASSES);
        let decisions = registry.observed(
            "countermand_quota_queries_total",
            "The decisions on the queries of a project, which are requests to Google: sent at once, sent after their \
             turn came, refused because their turn would not come before their deadline, or dropped while they waited. \
             In shadow mode, these are the decisions that would have been made. The series of a project exist from \
             its first query on, and with a shared store from the start, as do those below",
            CounterType,
            [project(), class(), Label::one_of("decision", &DECISIONS)],
        );
        let waits = registry.histograms(
            "countermand_quota_wait_seconds",
            "The time that queries waited until their turn came. Without those that were sent at once or refused",
            WAITS,
            [class()],
        );
        let queued = registry.observed(
            "countermand_quota_queued_queries",
            "The queries that wait for their turn",
            GaugeType,
            [project(), class()],
        );
        let mut gauge = |name, help| registry.observed(name, help, GaugeType, [project()]);
        let limit = gauge(
            "countermand_quota_limit_queries",
            "The `limit` of the `[[quota]]` section of the project: queries in any window of `period`",
        );
        let period = gauge(
            "countermand_quota_period_seconds",
            "The `period` of the `[[quota]]` section of the project",
        );
        let shadow = gauge(
            "countermand_quota_shadow",
            "1 if the project is in shadow mode, so that no query waits, otherwise 0",
        );
        let configured_rate = gauge(
            "countermand_quota_configured_rate",
            "The queries per second that the `[[quota]]` section allows: (limit − burst) ÷ period",
        );
        let rate = gauge(
            "countermand_quota_rate",
            "The queries per second that are allowed now. Below the configured rate after refusals by Google. While the \
             shared store is away, the part of this replica; otherwise the rate of all replicas together",
        );
        let available = gauge(
            "countermand_quota_available_queries",
            "The cancels that could be sent at once, at most the burst",
        );
        let hold = gauge(
            "countermand_quota_hold_seconds",
            "The time until gets, lists and polls are sent again after a refusal by Google, otherwise 0",
        );
        let google_refusals = registry.observed(
            "countermand_quota_google_refusals_total",
            "The queries that Google refused for the project's quota",
            CounterType,
            [project()],
        );
        let replicas = registry.observed(
            "countermand_quota_replicas",
            "The replicas that share the budget of the project. Absent without a shared store",
            GaugeType,
            [project()],
        );
        let shared_up = registry.observed(
            "countermand_quota_shared_up",
            "1 while the shared store of the budgets is in use, 0 while it is away. Absent without a shared store",
            GaugeType,
            [],
        );
        let shared_calls = registry.counters(
            "countermand_quota_shared_calls_total",
            "The calls to the shared store of the budgets",
            [Label::one_of("outcome", &OUTCOMES)],
        );
        let shared_durations = registry.histogram(
            "countermand_quota_shared_call_duration_seconds",
            "The duration of calls to the shared store of the budgets",
            SHARED_CALLS,
        );
        Self {
            readings: Arc::default(),
            decisions,
            waits,
            queued,
            limit,
            period,
            shadow,
            configured_rate,
            rate,
            available,
            hold,
            google_refusals,
            replicas,
            shared_up,
            shared_calls: OUTCOMES.map(|outcome| shared_calls.with([outcome])),
            shared_durations,
            history: Arc::default(),
        }
    }

    /// Metrics that are in no registry.
    #[must_use]
    pub fn unregistered() -> Self {
        Self::new(&mut Registry::default())
    }

    /// Counts a decision in the last minutes of the status page. The budgets count the decisions since the start.
    pub fn decided(&self, decision: QuotaDecision) {
        self.history.add(decision, Instant::now());
    }

    /// Counts the time that a query waited for its turn. `class` is its index in `quota::Class::ALL`.
    pub fn waited(&self, class: usize, wait: Duration) {
        if let Some(class) = CLASSES.get(class) {
            self.waits.get_or_create_owned(&[("class", class)]).observe(wait.as_secs_f64());
        }
    }

    /// Counts a call to the shared store.
    pub fn shared_call(&self, outcome: SharedCallOutcome, duration: Duration) {
        self.shared_calls[outcome as usize].inc();
        self.shared_durations.observe(duration.as_secs_f64());
    }

    /// The current values of the budgets, in the order of the projects. Empty before [`Self::read_with`].
    #[must_use]
    pub fn readings(&self) -> Vec<QuotaReading> {
        let mut readings = self.readings.get().map_or_else(Vec::new, |read| (read.0)());
        readings.sort_by(|one, two| one.project.cmp(&two.project));
        readings
    }

    /// Sets the function that reads the budgets, whenever the metrics are written. It must not block. A second function
    /// is ignored.
    pub fn read_with(&self, read: impl Fn() -> Vec<QuotaReading> + Clone + Send + Sync + 'static) {
        self.readings.get_or_init(|| ReadBudgets(Box::new(read.clone())));
        let by_project = |metric: &Observed<1>, value: fn(&QuotaReading) -> Option<f64>| {
            let read = read.clone();
            metric.read_with(move || {
                let values =
                    read().into_iter().filter_map(|reading| Some((value(&reading)?, reading.project)));
                values.map(|(value, project)| ([project], value)).collect()
            });
        };
        by_project(&self.limit, |reading| Some(f64::from(reading.limit)));
        by_project(&self.period, |reading| Some(reading.period.as_secs_f64()));
        by_project(&self.shadow, |reading| Some(f64::from(u8::from(reading.is_shadow))));
        by_project(&self.configured_rate, |reading| Some(reading.configured_rate));
        by_project(&self.rate, |reading| Some(reading.rate));
        by_project(&self.available, |reading| Some(reading.available));
        by_project(&self.hold, |reading| Some(reading.hold.as_secs_f64()));
        by_project(&self.google_refusals, |reading| Some(reading.google_refusals as f64));
        by_project(&self.replicas, |reading| reading.replicas.map(f64::from));
        self.queued.read_with({
            let read = read.clone();
            move || {
                let queued = read().into_iter().flat_map(|QuotaReading { project, queued, .. }| {
                    let label = move |class: &str| [project.clone(), class.to_owned()];
                    CLASSES.into_iter().zip(queued).map(move |(class, count)| (label(class), count as f64))
                });
                queued.collect()
            }
        });
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

impl fmt::Debug for ReadBudgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadBudgets")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{QuotaDecision, QuotaMetrics, QuotaReading, Registry, SharedCallOutcome};
    use crate::telemetry::metrics::TextFormat;

    fn text(registry: &Registry) -> String {
        registry.encode(TextFormat::Prometheus).expect("it can be written")
    }

    #[test]
    fn without_quota_only_the_calls_of_the_store_have_series() {
        let mut registry = Registry::default();
        let metrics = QuotaMetrics::new(&mut registry);
        let text = text(&registry);
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let of_calls = |line: &&str| line.starts_with("countermand_quota_shared_call");
        assert!(series.iter().all(of_calls), "{series:?}");
        assert!(metrics.readings().is_empty());
    }

    #[test]
    fn each_value_of_a_budget_is_written() {
        let mut registry = Registry::default();
        let metrics = QuotaMetrics::new(&mut registry);
        metrics.read_with(|| {
            let paced = QuotaReading {
                project: "b".to_owned(),
                decisions: [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]],
                google_refusals: 13,
                limit: 600,
                period: Duration::from_secs(60),
                configured_rate: 9.5,
                rate: 6.65,
                available: 29.5,
                queued: [1, 2, 3],
                hold: Duration::from_millis(2500),
                replicas: Some(3),
                ..QuotaReading::default()
            };
            vec![paced, QuotaReading { is_shadow: true, ..QuotaReading::default() }]
        });
        metrics.shared_up.read_value_with(|| 0.0);
        metrics.waited(1, Duration::from_millis(300));
        metrics.waited(3, Duration::from_millis(300));
        metrics.shared_call(SharedCallOutcome::Timeout, Duration::from_millis(50));
        let text = text(&registry);
        let mut missing = vec![
            r#"queries_total{project="b",class="cancel",decision="immediate"} 1.0"#,
            r#"queries_total{project="b",class="read",decision="refused"} 7.0"#,
            r#"queries_total{project="b",class="poll",decision="abandoned"} 12.0"#,
            r#"queries_total{project="",class="read",decision="delayed"} 0.0"#,
            r#"wait_seconds_bucket{class="read",le="0.25"} 0"#,
            r#"wait_seconds_bucket{class="read",le="0.5"} 1"#,
            r#"queued_queries{project="b",class="poll"} 3.0"#,
            r#"limit_queries{project="b"} 600.0"#,
            r#"period_seconds{project="b"} 60.0"#,
            r#"shadow{project="b"} 0.0"#,
            r#"shadow{project=""} 1.0"#,
            r#"configured_rate{project="b"} 9.5"#,
            r#"rate{project="b"} 6.65"#,
            r#"available_queries{project="b"} 29.5"#,
            r#"hold_seconds{project="b"} 2.5"#,
            r#"google_refusals_total{project="b"} 13.0"#,
            r#"replicas{project="b"} 3.0"#,
            "shared_up 0.0",
            r#"shared_calls_total{outcome="timeout"} 1"#,
            r#"shared_calls_total{outcome="success"} 0"#,
            r#"shared_call_duration_seconds_bucket{le="0.05"} 1"#,
        ];
        missing.retain(|series| !text.lines().any(|line| line == format!("countermand_quota_{series}")));
        assert!(missing.is_empty(), "{missing:#?} are missing in {text}");
        assert!(!text.contains(r#"replicas{project=""}"#), "the budget is not shared: {text}");
        assert_eq!(text.matches("countermand_quota_wait_seconds_count").count(), 1, "{text}");
        let projects: Vec<_> = metrics.readings().into_iter().map(|reading| reading.project).collect();
        assert_eq!(projects, ["", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn decisions_of_the_last_minutes_are_kept() {
        let metrics = QuotaMetrics::unregistered();
        for decision in [QuotaDecision::Delayed, QuotaDecision::Refused, QuotaDecision::Delayed] {
            metrics.decided(decision);
        }
        assert_eq!(metrics.history.read().all_decisions, [0, 2, 1, 0]);
    }
}
