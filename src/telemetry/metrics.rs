//! The metrics of the process.
//!
//! Each component has a struct of handles, which it updates without a look-up. [`Registry`] writes all values. Values
//! that a component keeps anyway are read when the metrics are written ([`Observed`]).
//!
//! Names and labels follow OpenTelemetry's semantic conventions, in Prometheus' form. The values of labels are closed
//! sets: no text of a caller, an enterprise, a device or an operation is a value. The names of credentials and the ids of
//! their projects are.

use std::sync::Arc;

pub use prometheus_client::metrics::counter::Counter;

mod audit;
mod calls;
mod connections;
mod credentials;
mod exemplar_histograms;
mod observed;
mod operations;
mod policy;
mod process;
mod quota;
mod registry;
mod reloads;
mod upstream;

pub use audit::AuditMetrics;
pub use calls::{CODES, CallMeasurement, CallMetrics, ERROR_REASONS, RpcMethod};
pub use connections::{ConnectionMetrics, ConnectionRefusal, OpenConnection, Transport};
pub use credentials::{CredentialMetrics, CredentialReading};
pub use observed::Observed;
pub use operations::OperationMetrics;
pub use policy::{DecidedAction, PolicyDecision, PolicyMetrics};
pub use process::ProcessMetrics;
pub use quota::{QuotaDecision, QuotaMetrics, QuotaReading, SharedCallOutcome};
pub use registry::{Registry, TextFormat};
pub use reloads::{ReloadCounter, ReloadKind, ReloadMetrics};
pub use upstream::{QueuedCall, RequestAttempt, RequestFailure, RequestMeasurement, UpstreamMetrics};

/// The metrics of all components.
#[derive(Debug)]
pub struct Metrics {
    /// Calls that this server receives.
    pub calls: Arc<CallMetrics>,
    /// The gRPC listeners.
    pub connections: ConnectionMetrics,
    /// Requests to the upstream.
    pub upstream: Arc<UpstreamMetrics>,
    /// The quota of the Google projects.
    pub quota: QuotaMetrics,
    /// Shared calls, the cache and polling.
    pub operations: OperationMetrics,
    /// The Google credentials.
    pub credentials: CredentialMetrics,
    /// The policy.
    pub policy: PolicyMetrics,
    /// The audit log.
    pub audit: AuditMetrics,
    /// Files that are reloaded.
    pub reloads: ReloadMetrics,
    /// The process.
    pub process: ProcessMetrics,
}

impl Metrics {
    /// Creates all metrics, and their registry. The registry has them in the order of the reference.
    #[must_use]
    pub fn new() -> (Self, Registry) {
        let mut registry = Registry::default();
        let metrics = Self {
            calls: CallMetrics::new(&mut registry),
            connections: ConnectionMetrics::new(&mut registry),
            upstream: UpstreamMetrics::new(&mut registry),
            quota: QuotaMetrics::new(&mut registry),
            operations: OperationMetrics::new(&mut registry),
            credentials: CredentialMetrics::new(&mut registry),
            policy: PolicyMetrics::new(&mut registry),
            audit: AuditMetrics::new(&mut registry),
            reloads: ReloadMetrics::new(&mut registry),
            process: ProcessMetrics::new(&mut registry),
        };
        (metrics, registry)
    }
}

/// The reference of all metrics, in Markdown.
#[must_use]
pub fn reference() -> String {
    Metrics::new().1.reference()
}
