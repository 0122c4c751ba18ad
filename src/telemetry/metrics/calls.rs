//! Metrics of the calls that this server receives.

use std::sync::Arc;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::time::Instant;

use super::{
    exemplar_histograms::ExemplarHistograms,
    registry::{BucketBounds, Label, Registry},
};
use crate::telemetry::history::CallHistory;

/// The bounds that OpenTelemetry gives for the duration of calls, in seconds.
pub(super) const DURATIONS: BucketBounds =
    BucketBounds(&[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]);

/// The bounds for the duration of waits, which last up to `polling.max_wait`.
const WAIT_DURATIONS: BucketBounds =
    BucketBounds(&[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0]);

/// The names of the gRPC codes, by their numbers.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of CANCELLED, the code of a call whose caller disconnected.
const CANCELLED: usize = 1;

/// The codes that are errors of the server (OpenTelemetry, "Semantic conventions for gRPC"), by their names.
const SERVER_ERRORS: [&str; 7] =
    ["", "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// The reasons of the errors that this server originates, and `_OTHER` for any other. A test compares them with the
/// code that makes the errors.
pub const ERROR_REASONS: [&str; 28] = [
    "AUDIT_UNAVAILABLE",
    "CREDENTIAL_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "INVALID_FILTER",
    "INVALID_FORWARDED_IDENTITY",
    "INVALID_GRPC_TIMEOUT",
    "INVALID_NAME",
    "INVALID_PAGE_SIZE",
    "INVALID_PAGE_TOKEN",
    "INVALID_TIMEOUT",
    "INVALID_TOKEN",
    "JWKS_UNAVAILABLE",
    "NOT_GRPC",
    "NOT_PERMITTED",
    "NOT_SUPPORTED",
    "NO_CREDENTIAL_FOR_ENTERPRISE",
    "OVERLOADED",
    "QUOTA_BUDGET",
    "REQUEST_NOT_BUILT",
    "REQUEST_TOO_LARGE",
    "SHUTTING_DOWN",
    "UNIMPLEMENTED",
    "UPSTREAM_CREDENTIAL_REJECTED",
    "UPSTREAM_MALFORMED",
    "UPSTREAM_UNREACHABLE",
    "URL_TOO_LONG",
    OTHER,
];

/// The value of a label for everything that is not listed.
pub(super) const OTHER: &str = "_OTHER";

/// A method of the service, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcMethod {
    /// CancelOperation.
    Cancel,
    /// GetOperation.
    Get,
    /// ListOperations.
    List,
    /// DeleteOperation.
    Delete,
    /// A path that is not a method of the service.
    Other,
    /// WaitOperation, which has a histogram of its own.
    Wait,
}

impl RpcMethod {
    /// All methods, in the order for people.
    pub const ALL: [Self; 6] = [Self::Cancel, Self::Get, Self::List, Self::Wait, Self::Delete, Self::Other];

    /// The name without that of the service, or `_OTHER`.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        let name = METHODS[self as usize];
        name.split_once('/').map_or(name, |(_, name)| name)
    }
}

/// The values of `rpc_method`, in the order of [`RpcMethod`]. WaitOperation is last.
const METHODS: [&str; 6] = [
    "google.longrunning.Operations/CancelOperation",
    "google.longrunning.Operations/GetOperation",
    "google.longrunning.Operations/ListOperations",
    "google.longrunning.Operations/DeleteOperation",
    OTHER,
    "google.longrunning.Operations/WaitOperation",
];

/// The values of `rpc_method` of calls that are not waits.
const METHODS_WITHOUT_WAIT: &[&str] = METHODS.split_at(5).0;

/// The metrics of calls.
#[derive(Debug)]
pub struct CallMetrics {
    /// By method and code.
    durations: Arc<ExemplarHistograms>,
    /// By code.
    waits: Arc<ExemplarHistograms>,
    in_flight: [Gauge; METHODS.len()],
    errors: [Counter; ERROR_REASONS.len()],
    /// The last minutes.
    pub history: CallHistory,
}

/// Measures a call, from its arrival until its response or the disconnection of its caller.
#[derive(Debug)]
pub struct CallMeasurement {
    metrics: Arc<CallMetrics>,
    method: RpcMethod,
    started: Instant,
    sampled_trace: Option<u128>,
    is_complete: bool,
}

impl CallMetrics {
    pub(super) fn new(registry: &mut Registry) -> Arc<Self> {
        let by_method_and_code = METHODS_WITHOUT_WAIT.iter().flat_map(|method| {
            CODES.map(|code| {
                let error = SERVER_ERRORS.into_iter().find(|error| *error == code).unwrap_or_default();
                ["grpc", *method, code, error]
            })
        });
        let durations = registry.exemplar_histograms(
            "rpc_server_call_duration_seconds",
            "The time from the arrival of a call to its response. A call whose caller disconnected before is CANCELLED. \
             WaitOperation is in countermand_wait_duration_seconds. In OpenMetrics, the exemplars are calls whose \
             trace is sampled. Their trace_id is that of the audit line",
            DURATIONS,
            [
                Label::one_of("rpc_system_name", &["grpc"]),
                Label::one_of("rpc_method", METHODS_WITHOUT_WAIT),
                Label::one_of("rpc_response_status_code", &CODES),
                Label::one_of("error_type", &SERVER_ERRORS),
            ],
            by_method_and_code,
        );
        let waits = registry.exemplar_histograms(
            "countermand_wait_duration_seconds",
            "The time from the arrival of a WaitOperation to its response. A call whose caller disconnected before is \
             CANCELLED",
            WAIT_DURATIONS,
            [Label::one_of("rpc_response_status_code", &CODES)],
            CODES.map(|code| [code]),
        );
        let in_flight = registry.gauges(
            "countermand_calls_in_flight",
            "The calls that have no response yet",
            Label::one_of("rpc_method", &METHODS),
        );
        let errors = registry.counters(
            "countermand_errors_total",
            "The responses with an error of the domain countermand, by the reason of its ErrorInfo. docs/CALLING.md \
             explains the reasons",
            [Label::one_of("reason", &ERROR_REASONS)],
        );
        Arc::new(Self {
            durations,
            waits,
            in_flight: METHODS.map(|method| in_flight.with(method)),
            errors: ERROR_REASONS.map(|reason| errors.with([reason])),
            history: CallHistory::default(),
        })
    }

    /// Starts to measure a call that arrived at `started`. `sampled_trace` is the ID of a trace that a
    /// tracing backend has: the exemplars lead there.
    #[must_use]
    pub fn start(
        self: &Arc<Self>,
        method: RpcMethod,
        started: Instant,
        sampled_trace: Option<u128>,
    ) -> CallMeasurement {
        self.in_flight[method as usize].inc();
        CallMeasurement { metrics: Arc::clone(self), method, started, sampled_trace, is_complete: false }
    }

    /// The calls of a method that have no response yet.
    #[must_use]
    pub fn in_flight(&self, method: RpcMethod) -> i64 {
        self.in_flight[method as usize].get()
    }

    /// Counts a response with an error of this server.
    pub fn count_error(&self, reason: &str) {
        let known = ERROR_REASONS.iter().position(|known| *known == reason);
        // The last reason is `_OTHER`.
        self.errors[known.unwrap_or(ERROR_REASONS.len() - 1)].inc();
    }
}

impl CallMeasurement {
    /// Counts the response, with a gRPC code by its number.
    pub fn complete(mut self, code: usize) {
        self.count(code);
    }

    /// Counts an error of the response: the reason of an `ErrorInfo` of this server.
    pub fn count_error(&self, reason: &str) {
        self.metrics.count_error(reason);
    }

    fn count(&mut self, code: usize) {
        self.is_complete = true;
        let (code, duration) = (code.min(CODES.len() - 1), self.started.elapsed());
        let seconds = duration.as_secs_f64();
        if self.method == RpcMethod::Wait {
            self.metrics.waits.observe(code, seconds, self.sampled_trace);
        } else {
            let index = self.method as usize * CODES.len() + code;
            self.metrics.durations.observe(index, seconds, self.sampled_trace);
        }
        self.metrics.history.add(self.method, code, self.started, duration);
    }
}

impl Drop for CallMeasurement {
    fn drop(&mut self) {
        if !self.is_complete {
            self.count(CANCELLED);
        }
        self.metrics.in_flight[self.method as usize].dec();
    }
}
