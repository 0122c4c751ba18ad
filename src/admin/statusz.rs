//! The content of `/statusz` and `/statusz.json`. docs/ADMIN.md describes the members of the JSON.
//!
//! No text of a caller, an enterprise, a device or an operation is in it, because every process that reaches the port
//! can read it. The names of enterprises in the configuration are.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use humantime::{format_rfc3339_millis, format_rfc3339_seconds};
use serde::Serialize;

use super::{
    pages::{Detail, Operator, Pages, page},
    readyz::{self, CredentialLine},
};
use crate::{
    config::EffectiveSetting,
    credentials::Credential,
    serving::Serving,
    telemetry::{
        history::{COMPLETE_SLOTS, CallWindow, MethodWindow, QuotaWindow, RecentCall, SLOT, UpstreamWindow},
        metrics::{CallMetrics, QuotaMetrics, QuotaReading},
    },
};

/// The state of the process at one time. Series have one number for each slot of `slot_s` seconds, the oldest first.
#[derive(Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) state: &'static str,
    pub(super) time: String,
    pub(super) started: String,
    pub(super) uptime_s: u64,
    pub(super) listeners: Vec<ListenerStatus>,
    pub(super) credentials: Vec<CredentialPart>,
    pub(super) slot_s: u64,
    pub(super) window_s: u64,
    pub(super) calls: CallStatus,
    pub(super) upstream: UpstreamStatus,
    pub(super) quota: QuotaStatus,
    pub(super) operations: OperationStatus,
    pub(super) connections: ConnectionStatus,
    pub(super) configuration: Vec<SettingStatus>,
}

#[derive(Serialize)]
pub(super) struct ListenerStatus {
    pub(super) setting: &'static str,
    pub(super) address: String,
}

#[derive(Serialize)]
pub(super) struct CredentialPart {
    #[serde(flatten)]
    pub(super) line: CredentialLine,
    pub(super) expires: Option<String>,
    pub(super) fetches: u64,
    pub(super) failed_fetches: u64,
}

#[derive(Serialize)]
pub(super) struct CallStatus {
    pub(super) in_flight: i64,
    pub(super) methods: Vec<MethodStatus>,
    pub(super) series: CallSeries,
    pub(super) recent: Vec<RecentStatus>,
}

#[derive(Serialize)]
pub(super) struct MethodStatus {
    pub(super) method: &'static str,
    pub(super) in_flight: i64,
    pub(super) ok: u64,
    pub(super) caller_errors: u64,
    pub(super) server_errors: u64,
    #[serde(flatten)]
    pub(super) durations: DurationStatus,
    pub(super) series: Vec<u32>,
}

/// The median and the 99th percentile, in milliseconds. Absent values are null.
#[derive(Serialize)]
pub(super) struct DurationStatus {
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct CallSeries {
    pub(super) ok: Vec<u32>,
    pub(super) caller_errors: Vec<u32>,
    pub(super) server_errors: Vec<u32>,
    #[serde(flatten)]
    pub(super) durations: DurationSeries,
}

#[derive(Serialize)]
pub(super) struct DurationSeries {
    pub(super) p50_ms: Vec<Option<f64>>,
    pub(super) p99_ms: Vec<Option<f64>>,
}

#[derive(Serialize)]
pub(super) struct RecentStatus {
    pub(super) time: String,
    pub(super) method: &'static str,
    pub(super) code: &'static str,
    pub(super) duration_ms: f64,
}

#[derive(Serialize)]
pub(super) struct UpstreamStatus {
    pub(super) successes: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
    pub(super) no_responses: u64,
    pub(super) retries: u64,
    pub(super) hedges: u64,
    pub(super) retry_budget: Option<f64>,
    pub(super) queued: i64,
    #[serde(flatten)]
    pub(super) durations: DurationStatus,
    pub(super) last_error: Option<UpstreamErrorStatus>,
    pub(super) series: UpstreamSeries,
}

#[derive(Serialize)]
pub(super) struct UpstreamErrorStatus {
    pub(super) time: String,
    pub(super) code: &'static str,
}

#[derive(Serialize)]
pub(super) struct UpstreamSeries {
    pub(super) successes: Vec<u32>,
    pub(super) client_errors: Vec<u32>,
    pub(super) server_errors: Vec<u32>,
    pub(super) no_responses: Vec<u32>,
    #[serde(flatten)]
    pub(super) durations: DurationSeries,
}

/// The decisions on the queries of all projects, and the budget of each project.
#[derive(Serialize)]
pub(super) struct QuotaStatus {
    pub(super) immediate: u64,
    pub(super) delayed: u64,
    pub(super) refused: u64,
    pub(super) abandoned: u64,
    pub(super) shared_up: Option<bool>,
    pub(super) projects: Vec<BudgetStatus>,
    pub(super) series: QuotaSeries,
}

#[derive(Serialize)]
pub(super) struct BudgetStatus {
    pub(super) project: String,
    pub(super) mode: &'static str,
    pub(super) limit: u32,
    pub(super) period_s: f64,
    pub(super) configured_rate: f64,
    pub(super) rate: f64,
    pub(super) available: f64,
    pub(super) queued: QueuedStatus,
    pub(super) hold_s: f64,
    pub(super) google_refusals: u64,
    pub(super) replicas: Option<u32>,
    pub(super) is_away: bool,
}

#[derive(Serialize)]
pub(super) struct QueuedStatus {
    pub(super) cancel: u64,
    pub(super) read: u64,
    pub(super) poll: u64,
}

#[derive(Serialize)]
pub(super) struct QuotaSeries {
    pub(super) immediate: Vec<u32>,
    pub(super) delayed: Vec<u32>,
    pub(super) refused: Vec<u32>,
    pub(super) abandoned: Vec<u32>,
}

#[derive(Serialize)]
pub(super) struct OperationStatus {
    pub(super) waiters: Option<f64>,
    pub(super) pollers: Option<f64>,
    pub(super) cached: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct ConnectionStatus {
    pub(super) tcp: i64,
    pub(super) tls: i64,
    pub(super) unix: i64,
}

#[derive(Serialize)]
pub(super) struct SettingStatus {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) source: String,
}

pub(super) fn json(status: &Status) -> Response<Full<Bytes>> {
    let json = serde_json::to_vec(status).expect("strings, numbers, lists and options");
    page(StatusCode::OK, "application/json", json)
}

impl Status {
    /// Reads the state now.
    pub(super) fn read(pages: &Pages, operator: &Operator) -> Self {
        let Operator {
            started: (started, started_at),
            listeners,
            configuration,
            calls,
            upstream,
            quota,
            operations,
            connections,
            quit: _,
        } = operator;
        let listeners =
            listeners.iter().map(|(setting, address)| ListenerStatus { setting, address: address.clone() });
        let [tcp, tls, unix] = connections.by_transport();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            state: state_name(*pages.serving.borrow()),
            time: format_rfc3339_seconds(SystemTime::now()).to_string(),
            started: format_rfc3339_seconds(*started).to_string(),
            uptime_s: started_at.elapsed().as_secs(),
            listeners: listeners.collect(),
            credentials: pages.credentials.active().iter().map(CredentialPart::read).collect(),
            slot_s: SLOT.as_secs(),
            window_s: SLOT.as_secs() * COMPLETE_SLOTS as u64,
            calls: CallStatus::read(calls),
            upstream: UpstreamStatus {
                queued: upstream.queued(),
                retry_budget: upstream.budget_available.value(),
                ..UpstreamStatus::read(upstream.history.read())
            },
            quota: QuotaStatus::read(quota),
            operations: OperationStatus {
                waiters: operations.waiters.value(),
                pollers: operations.pollers.value(),
                cached: operations.cache_entries.value(),
            },
            connections: ConnectionStatus { tcp, tls, unix },
            configuration: configuration().into_iter().map(SettingStatus::from).collect(),
        }
    }
}

fn state_name(serving: Serving) -> &'static str {
    match serving {
        Serving::NotReady => "not_ready",
        Serving::Ready => "ready",
        Serving::Leaving => "leaving",
        Serving::Draining => "draining",
    }
}

impl CredentialPart {
    fn read(credential: &Credential) -> Self {
        let status = credential.status();
        let (fetches, failed_fetches) = status.fetch_counts();
        let expires = status.token_times().map(|(_, end)| format_rfc3339_seconds(end).to_string());
        Self { line: readyz::line(credential, Detail::Causes), expires, fetches, failed_fetches }
    }
}

impl CallStatus {
    fn read(metrics: &CallMetrics) -> Self {
        let CallWindow { outcomes, durations, methods, recent } = metrics.history.read();
        let methods: Vec<_> = methods.into_iter().map(|window| MethodStatus::read(window, metrics)).collect();
        let [ok, caller_errors, server_errors] = transpose(&outcomes);
        let durations = DurationSeries::from(durations);
        Self {
            in_flight: methods.iter().map(|method| method.in_flight).sum(),
            methods,
            series: CallSeries { ok, caller_errors, server_errors, durations },
            recent: recent.into_iter().map(RecentStatus::from).collect(),
        }
    }
}

impl MethodStatus {
    fn read(window: MethodWindow, metrics: &CallMetrics) -> Self {
        let MethodWindow { method, outcomes: [ok, caller_errors, server_errors], durations, calls } = window;
        Self {
            method: method.short_name(),
            in_flight: metrics.in_flight(method),
            ok,
            caller_errors,
            server_errors,
            durations: durations.into(),
            series: calls,
        }
    }
}

impl UpstreamStatus {
    /// The values of the window. The others are zero or absent.
    fn read(window: UpstreamWindow) -> Self {
        let UpstreamWindow {
            responses,
            durations,
            all_responses: [successes, client_errors, server_errors, no_responses],
            all_durations,
            retries,
            hedges,
            last_error,
        } = window;
        let last_error = last_error.map(|error| UpstreamErrorStatus {
            time: format_rfc3339_seconds(error.time).to_string(),
            code: error.code,
        });
        let series = {
            let [successes, client_errors, server_errors, no_responses] = transpose(&responses);
            let durations = DurationSeries::from(durations);
            UpstreamSeries { successes, client_errors, server_errors, no_responses, durations }
        };
        let durations = all_durations.into();
        Self {
            successes,
            client_errors,
            server_errors,
            no_responses,
            retries,
            hedges,
            retry_budget: None,
            queued: 0,
            durations,
            last_error,
            series,
        }
    }
}

impl QuotaStatus {
    pub(super) fn read(metrics: &QuotaMetrics) -> Self {
        let QuotaWindow { decisions, all_decisions: [immediate, delayed, refused, abandoned] } =
            metrics.history.read();
        let series = {
            let [immediate, delayed, refused, abandoned] = transpose(&decisions);
            QuotaSeries { immediate, delayed, refused, abandoned }
        };
        let projects = metrics.readings().into_iter().map(BudgetStatus::from).collect();
        let shared_up = metrics.shared_up.value().map(|up| up > 0.0);
        Self { immediate, delayed, refused, abandoned, shared_up, projects, series }
    }
}

impl From<QuotaReading> for BudgetStatus {
    fn from(reading: QuotaReading) -> Self {
        let [cancel, read, poll] = reading.queued;
        Self {
            project: reading.project,
            mode: if reading.is_shadow { "shadow" } else { "enforce" },
            limit: reading.limit,
            period_s: reading.period.as_secs_f64(),
            configured_rate: reading.configured_rate,
            rate: reading.rate,
            available: reading.available,
            queued: QueuedStatus { cancel, read, poll },
            hold_s: reading.hold.as_secs_f64(),
            google_refusals: reading.google_refusals,
            replicas: reading.replicas,
            is_away: reading.is_away,
        }
    }
}

impl From<RecentCall> for RecentStatus {
    fn from(RecentCall { ended, method, code, duration }: RecentCall) -> Self {
        let time = format_rfc3339_millis(ended).to_string();
        Self { time, method: method.short_name(), code, duration_ms: millis(duration) }
    }
}

impl From<EffectiveSetting> for SettingStatus {
    fn from(EffectiveSetting { key, value, source }: EffectiveSetting) -> Self {
        Self { key, value, source }
    }
}

impl From<Option<[Duration; 2]>> for DurationStatus {
    fn from(durations: Option<[Duration; 2]>) -> Self {
        let [p50_ms, p99_ms] = durations.map_or([None; 2], |durations| durations.map(millis).map(Some));
        Self { p50_ms, p99_ms }
    }
}

impl From<Vec<Option<[Duration; 2]>>> for DurationSeries {
    fn from(durations: Vec<Option<[Duration; 2]>>) -> Self {
        let slots: Vec<_> = durations.into_iter().map(DurationStatus::from).collect();
        Self {
            p50_ms: slots.iter().map(|slot| slot.p50_ms).collect(),
            p99_ms: slots.iter().map(|slot| slot.p99_ms).collect(),
        }
    }
}

/// Milliseconds, rounded to microseconds.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The series of each count.
fn transpose<const N: usize>(slots: &[[u32; N]]) -> [Vec<u32>; N] {
    std::array::from_fn(|count| slots.iter().map(|slot| slot[count]).collect())
}
