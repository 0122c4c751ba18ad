//! Formats the line of a call.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{
    json::Object,
    record::{Facts, Method, Record},
};
use crate::{telemetry::traces::Span, trace_id::TraceId};

/// The last second that RFC 3339 can represent.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The arrival of a call.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The method.
    pub method: Method,
    /// The trace of the call.
    pub trace_id: TraceId,
    time: SystemTime,
    since: Instant,
}

impl Arrival {
    /// The arrival of a call now.
    #[must_use]
    pub fn now(method: Method, trace_id: TraceId) -> Self {
        Self { method, trace_id, time: SystemTime::now(), since: Instant::now() }
    }

    /// The time of the arrival, for durations.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.since
    }

    /// The line of the call, which ended with `code` (`NOT_FOUND`), including a newline. Returns `None` if the line
    /// exists already. Facts that do not apply are absent.
    #[must_use]
    pub fn line(&self, record: &Record, code: &'static str) -> Option<Vec<u8>> {
        let mut facts = record.close()?;
        if let Some(span) = facts.span.take() {
            end_span(span, &facts, code);
        }
        let Facts { caller, name, decision, policies, would_deny, flight, is_shared, .. } = &facts;
        let mut line = Object::new();
        line.display("time", timestamp(self.time));
        if let Some(caller) = caller {
            line.display("caller", caller);
            line.text("proof", caller.evidence().as_str());
        }
        line.text("method", self.method.name());
        line.text_if("name", name.as_deref());
        line.text_if("decision", decision.map(super::record::Decision::as_str));
        line.texts_if("policies", policies.as_deref().unwrap_or_default());
        if let Some(would_deny) = would_deny {
            line.bare("would_deny", would_deny);
        }
        line.text("code", code);
        if let Some(flight) = flight {
            if let Some(status) = flight.upstream_status() {
                line.number("upstream_status", status.into());
            }
            if flight.attempts() > 0 {
                line.number("attempts", flight.attempts().into());
            }
            if *is_shared {
                line.bare("shared", true);
            }
            line.text_if("credential", flight.credential());
        }
        line.thousandths("duration_ms", micros(self.since.elapsed()));
        line.plain("trace_id", &self.trace_id.hexadecimal());
        Some(line.line())
    }
}

/// Ends the span of a call with the facts of its line. By OpenTelemetry's conventions for gRPC, a span of a server has an
/// error only for these codes, because the others concern the caller.
fn end_span(mut span: Span, facts: &Facts, code: &'static str) {
    if !span.is_recorded() {
        return;
    }
    if let Some(name) = &facts.name {
        span.set("countermand.resource", name.as_str());
    }
    if let Some(decision) = facts.decision {
        span.set("countermand.decision", decision.as_str());
    }
    if let Some(flight) = &facts.flight {
        if let Some(credential) = flight.credential() {
            span.set("countermand.credential", credential);
        }
        if facts.is_shared {
            span.set("countermand.shared", true);
            flight.trace().span.iter().for_each(|shared| span.link(shared));
        }
    }
    span.set("rpc.response.status_code", code);
    match code {
        "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" => {
            span.fail(code);
        }
        _ => span.succeed(),
    }
}

/// A timestamp with milliseconds. A time out of range becomes the nearest valid one.
fn timestamp(time: SystemTime) -> humantime::Rfc3339Timestamp {
    let last = SystemTime::UNIX_EPOCH + LAST_SECOND;
    humantime::format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, last))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
