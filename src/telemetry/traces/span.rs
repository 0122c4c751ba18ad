//! Spans and their contexts.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::SystemTime,
};

use http::{HeaderMap, HeaderValue};

use super::{Tracer, random_span_id};
use crate::{
    proto::otlp::{
        common::{AnyValue, KeyValue, any_value::Value},
        trace::{self as otlp, SpanFlags, Status, span::Link, span::SpanKind, status::StatusCode},
    },
    trace_id::{TraceId, TraceParent},
};

/// The bit of a sampled trace in `traceparent` (W3C Trace Context, section 3.2.2.5.1).
const SAMPLED: u8 = 0x01;

/// The bit of a random trace ID, which is forwarded (Trace Context Level 2, section 3.2.2.5.2).
const RANDOM: u8 = 0x02;

/// The maximum number of links of a span ("Span Limits" of the OpenTelemetry SDK specification).
const MAX_LINKS: usize = 128;

/// The position of a span in its trace, which other spans and services refer to. Cheap to clone.
#[derive(Clone)]
pub struct SpanContext(Arc<ContextInner>);

/// A [`SpanContext`] that does not keep the context alive.
#[derive(Clone)]
pub struct WeakSpanContext(Weak<ContextInner>);

struct ContextInner {
    tracer: Tracer,
    trace_id: TraceId,
    span_id: u64,
    flags: u8,
    state: Option<HeaderValue>,
}

/// A span. Its end is the drop. It has no data if its trace is not sampled.
pub struct Span {
    context: SpanContext,
    data: Option<Box<otlp::Span>>,
    /// The `error.type` of a span that is dropped without [`Span::succeed`] or [`Span::fail`].
    error_when_dropped: Option<&'static str>,
}

/// The name of the span of a call, and its `rpc.method`.
#[must_use]
pub fn rpc_span_name(method: &str) -> String {
    format!("google.longrunning.Operations/{method}")
}

impl SpanContext {
    /// Starts a span below this one. `None` if the trace is not sampled.
    #[must_use]
    pub fn child(&self, kind: SpanKind, name: &'static str) -> Option<Span> {
        self.is_sampled().then(|| {
            let ContextInner { tracer, trace_id, span_id, flags, state } = &*self.0;
            let (tracer, state) = (tracer.clone(), state.clone());
            let context =
                ContextInner { tracer, trace_id: *trace_id, span_id: random_span_id(), flags: *flags, state };
            Span::recorded(context, kind, name.to_owned(), *span_id, false)
        })
    }

    /// Starts a span in a trace of its own, with a link to each of `contexts`. It is recorded because one of them is.
    /// `None` without one that is sampled.
    #[must_use]
    pub fn linked(contexts: &[Self], name: &'static str) -> Option<Span> {
        let sampled = || contexts.iter().filter(|context| context.is_sampled());
        let tracer = sampled().next()?.0.tracer.clone();
        let context = ContextInner {
            tracer,
            trace_id: TraceId::random(),
            span_id: random_span_id(),
            flags: SAMPLED | RANDOM,
            state: None,
        };
        let mut span = Span::recorded(context, SpanKind::Internal, name.to_owned(), 0, false);
        sampled().for_each(|context| span.link(context));
        Some(span)
    }

    /// Whether the spans of the trace are recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.flags & SAMPLED != 0
    }

    /// The ID of the trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.0.trace_id
    }

    /// A reference that does not keep the context alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakSpanContext {
        WeakSpanContext(Arc::downgrade(&self.0))
    }

    /// Adds `traceparent` and `tracestate`, unless propagation is off.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        let ContextInner { tracer, trace_id, span_id, flags, state } = &*self.0;
        if !tracer.0.propagates {
            return;
        }
        let parent = format!("00-{trace_id}-{span_id:016x}-{flags:02x}");
        if let Ok(parent) = HeaderValue::try_from(parent) {
            headers.insert("traceparent", parent);
        }
        if let Some(state) = state {
            headers.insert("tracestate", state.clone());
        }
    }
}

impl WeakSpanContext {
    /// The context, if its call has not ended.
    #[must_use]
    pub fn upgrade(&self) -> Option<SpanContext> {
        self.0.upgrade().map(SpanContext)
    }
}

impl fmt::Debug for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanContext({}-{:016x})", self.0.trace_id, self.0.span_id)
    }
}

impl Span {
    /// The span of a call.
    pub(super) fn of_call(
        tracer: &Tracer,
        method: &'static str,
        trace_id: TraceId,
        parent: Option<TraceParent>,
        state: Option<HeaderValue>,
        is_sampled: bool,
    ) -> Self {
        let random = parent.map_or(RANDOM, |parent| parent.flags & RANDOM);
        let flags = random | if is_sampled { SAMPLED } else { 0 };
        let context =
            ContextInner { tracer: tracer.clone(), trace_id, span_id: random_span_id(), flags, state };
        if !is_sampled {
            return Self { context: SpanContext(Arc::new(context)), data: None, error_when_dropped: None };
        }
        let name = rpc_span_name(method);
        let parent_id = parent.map_or(0, |parent| parent.parent_id);
        let mut span = Self::recorded(context, SpanKind::Server, name.clone(), parent_id, parent.is_some());
        span.set("rpc.system.name", "grpc");
        span.set("rpc.method", name);
        span
    }

    fn recorded(
        context: ContextInner,
        kind: SpanKind,
        name: String,
        parent_id: u64,
        has_remote_parent: bool,
    ) -> Self {
        let id = |id: u64| if id == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
        let data = otlp::Span {
            trace_id: context.trace_id.to_bytes().to_vec(),
            span_id: id(context.span_id),
            trace_state: state_text(&context),
            parent_span_id: id(parent_id),
            flags: otlp_flags(&context, has_remote_parent),
            name,
            kind: kind.into(),
            start_time_unix_nano: unix_nanos(),
            ..otlp::Span::default()
        };
        Self { context: SpanContext(Arc::new(context)), data: Some(Box::new(data)), error_when_dropped: None }
    }

    /// Fails with this `error.type` if it is dropped without [`Self::succeed`] or [`Self::fail`].
    #[must_use]
    pub fn or_fail(mut self, error_type: &'static str) -> Self {
        self.error_when_dropped = Some(error_type);
        self
    }

    /// The context.
    #[must_use]
    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Whether attributes are recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.data.is_some()
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Attribute>) {
        if let Some(data) = &mut self.data {
            data.attributes.push(attribute(key.to_owned(), value));
        }
    }

    /// Links to a span of the same or another trace. Further links are only counted after 128.
    pub fn link(&mut self, to: &SpanContext) {
        let Some(data) = &mut self.data else { return };
        if data.links.len() >= MAX_LINKS {
            data.dropped_links_count += 1;
            return;
        }
        data.links.push(Link {
            trace_id: to.0.trace_id.to_bytes().to_vec(),
            span_id: to.0.span_id.to_be_bytes().to_vec(),
            trace_state: state_text(&to.0),
            flags: otlp_flags(&to.0, false),
            ..Link::default()
        });
    }

    /// Ends without an error.
    pub fn succeed(mut self) {
        self.error_when_dropped = None;
    }

    /// Ends with an error.
    pub fn fail(mut self, error_type: impl Into<String>) {
        self.error_when_dropped = None;
        self.set_error(error_type.into());
    }

    fn set_error(&mut self, error_type: String) {
        self.set("error.type", error_type);
        if let Some(data) = &mut self.data {
            data.status = Some(Status { code: StatusCode::Error.into(), message: String::new() });
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(error) = self.error_when_dropped.take() {
            self.set_error(error.to_owned());
        }
        if let Some(mut data) = self.data.take() {
            data.end_time_unix_nano = unix_nanos().max(data.start_time_unix_nano);
            self.context.0.tracer.0.queue.push(*data);
        }
    }
}

/// The value of an attribute.
pub struct Attribute(Value);

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Self(Value::StringValue(value.to_owned()))
    }
}

impl From<String> for Attribute {
    fn from(value: String) -> Self {
        Self(Value::StringValue(value))
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Self(Value::BoolValue(value))
    }
}

impl From<u16> for Attribute {
    fn from(value: u16) -> Self {
        Self(Value::IntValue(value.into()))
    }
}

impl From<u32> for Attribute {
    fn from(value: u32) -> Self {
        Self(Value::IntValue(value.into()))
    }
}

/// An attribute of OTLP.
pub(super) fn attribute(key: String, value: impl Into<Attribute>) -> KeyValue {
    let Attribute(value) = value.into();
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn state_text(context: &ContextInner) -> String {
    let state = context.state.as_ref().and_then(|state| state.to_str().ok());
    state.unwrap_or_default().to_owned()
}

/// The flags of `traceparent`, and whether the parent, or the linked span, belongs to another process.
fn otlp_flags(context: &ContextInner, is_remote: bool) -> u32 {
    let remote = if is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    u32::from(context.flags) | SpanFlags::ContextHasIsRemoteMask as u32 | remote
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
