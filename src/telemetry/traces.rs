//! Traces: spans of calls, exported to an OpenTelemetry collector over OTLP/gRPC.
//!
//! A [`Tracer`] exists only if an endpoint is configured, so without one a call costs a few empty options. A call that
//! is not sampled has a [`SpanContext`] for `traceparent`, and no spans. docs/TRACING.md describes the spans.
//!
//! The types of OTLP are generated from `proto/`. The SDK of OpenTelemetry would add ten crates and a thread, and would
//! read the environment itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    proto::otlp::trace::span::SpanKind,
    trace_id::{TraceId, TraceParent},
};

mod export;
mod queue;
mod sampler;
pub mod settings;
mod span;

use export::Exporter;
use queue::Queue;
use sampler::Sampler;
use settings::TraceSettings;
pub use span::{Span, SpanContext, WeakSpanContext, rpc_span_name};

/// The maximum time that the end of the process waits for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts spans. Cheap to clone.
#[derive(Clone)]
pub struct Tracer(Arc<TracerInner>);

struct TracerInner {
    sampler: Sampler,
    /// Whether requests to the upstream have `traceparent`.
    propagates: bool,
    queue: Arc<Queue>,
}

/// The trace of a call: its ID for the logs, and its span if traces are exported. The default belongs to no call.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The ID in the audit line.
    pub id: Option<TraceId>,
    /// The span of the call, the parent of all other spans. `None` without a tracer.
    pub span: Option<SpanContext>,
}

impl Trace {
    /// Starts a span below the call's span. `None` if the call is not sampled.
    #[must_use]
    pub fn child(&self, kind: SpanKind, name: &'static str) -> Option<Span> {
        self.span.as_ref().and_then(|span| span.child(kind, name))
    }

    /// Adds `traceparent` and `tracestate` to the headers of a request to the upstream, whose span is `span`. Adds
    /// nothing without a tracer.
    pub fn inject(&self, span: Option<&Span>, headers: &mut HeaderMap) {
        if let Some(context) = span.map(Span::context).or(self.span.as_ref()) {
            context.inject(headers);
        }
    }
}

impl Tracer {
    /// Starts the span of a call of `method`, which arrived with this `parent`. `trace_id` is the parent's, if there is
    /// one.
    #[must_use]
    pub fn start_call(
        &self,
        method: &'static str,
        trace_id: TraceId,
        parent: Option<TraceParent>,
        headers: &HeaderMap,
    ) -> Span {
        let is_sampled = self.0.sampler.samples(trace_id, parent);
        Span::of_call(self, method, trace_id, parent, trace_state(parent, headers), is_sampled)
    }
}

/// The caller's `tracestate`, if it can be forwarded. Several headers are one list (W3C Trace Context, section 3.3.1).
fn trace_state(parent: Option<TraceParent>, headers: &HeaderMap) -> Option<HeaderValue> {
    /// The length that must be propagated (section 3.3.1.5).
    const MAX_BYTES: usize = 512;
    parent?;
    let mut states = headers.get_all("tracestate").iter();
    let first = states.next()?;
    let state = match states.next() {
        None => first.clone(),
        Some(_) => {
            let all: Vec<_> = headers.get_all("tracestate").iter().map(HeaderValue::as_bytes).collect();
            HeaderValue::from_bytes(&all.join(&b',')).ok()?
        }
    };
    let is_valid = !state.is_empty() && state.len() <= MAX_BYTES && state.to_str().is_ok();
    is_valid.then_some(state)
}

/// The tracer and the export of its spans.
pub struct Traces {
    tracer: Tracer,
    stop: CancellationToken,
    exporter: JoinHandle<()>,
    queue: Arc<Queue>,
}

impl Traces {
    /// Starts the export. The connection to the collector is made when the first spans are sent.
    #[must_use]
    pub fn start(settings: TraceSettings) -> Self {
        let TraceSettings { collector, resource, sampler, propagates, batch } = settings;
        let queue = Arc::new(Queue::new(batch.max_queued, batch.max_spans));
        let stop = CancellationToken::new();
        let exporter = Exporter::new(collector, resource, Arc::clone(&queue), batch.delay);
        // Not a supervised task: the process serves calls also without traces.
        let exporter = tokio::spawn(exporter.run(stop.clone()));
        let tracer = Tracer(Arc::new(TracerInner { sampler, propagates, queue: Arc::clone(&queue) }));
        Self { tracer, stop, exporter, queue }
    }

    /// The tracer.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Exports the last spans, until `end` or for 2 seconds. Logs the number of spans that are lost.
    pub async fn end(self, end: Instant) {
        self.stop.cancel();
        let end = end.min(Instant::now() + FLUSH_TIMEOUT);
        let mut exporter = self.exporter;
        if timeout_at(end, &mut exporter).await.is_err() {
            exporter.abort();
            let lost = self.queue.close();
            tracing::warn!(lost, "the last spans were not exported before the end");
        }
    }
}

/// A span ID, never 0.
fn random_span_id() -> u64 {
    fastrand::u64(1..)
}

/// The number of lost spans since the last read.
#[derive(Debug, Default)]
struct Lost(AtomicU64);

impl Lost {
    fn add(&self, spans: u64) {
        self.0.fetch_add(spans, Relaxed);
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests;
