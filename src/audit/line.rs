//! From a record to a line.
//!
//! A line is JSON in printable ASCII: everything else is an escape, so that no text from outside ends a line,
//! in the eyes of whatever reader, or acts on the terminal that shows it.

use std::{
    fmt::Display,
    io,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;
use tokio::time::Instant;

use super::{
    record::{Method, Noted, Record, Upstream},
    trace_id::TraceId,
};

/// More than most lines need.
const USUAL_LENGTH: usize = 512;

/// The last second that a date of RFC 3339 can name.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The beginning of a call.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The method that is called.
    pub method: Method,
    /// The trace that it is part of.
    pub trace_id: TraceId,
    time: SystemTime,
    since: Instant,
}

/// A line; what does not apply is absent.
#[derive(Serialize)]
struct Line<'a> {
    time: Text<humantime::Rfc3339Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<Text<&'a crate::caller::Caller>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policies: &'a [String],
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    duration_ms: f64,
    trace_id: Text<TraceId>,
}

impl Arrival {
    /// A call that arrives now.
    #[must_use]
    pub fn now(method: Method, trace_id: TraceId) -> Self {
        Self { method, trace_id, time: SystemTime::now(), since: Instant::now() }
    }

    /// The line of the call, which ended with `code` (`NOT_FOUND`), its newline included; none when its line
    /// was made before.
    #[must_use]
    pub fn line(&self, record: &Record, code: &'static str) -> Option<Vec<u8>> {
        let noted = record.close()?;
        let Noted { caller, name, decision, policies, upstream, .. } = &noted;
        let Upstream { attempts, status, credential, is_shared } = upstream;
        let line = Line {
            time: Text(timestamp(self.time)),
            caller: caller.as_ref().map(Text),
            proof: caller.as_ref().map(|caller| caller.proof().as_str()),
            method: self.method.name(),
            name: name.as_deref(),
            decision: decision.map(super::record::Decision::as_str),
            policies: policies.as_deref().unwrap_or_default(),
            code,
            upstream_status: *status,
            attempts: (*attempts > 0).then_some(*attempts),
            shared: is_shared.then_some(true),
            credential: credential.as_deref(),
            duration_ms: milliseconds(self.since.elapsed()),
            trace_id: Text(self.trace_id),
        };
        Some(encode(&line))
    }
}

fn encode(line: &Line<'_>) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(USUAL_LENGTH);
    let mut serializer = serde_json::Serializer::with_formatter(&mut encoded, Ascii);
    line.serialize(&mut serializer).expect("strings and numbers are JSON, and memory takes them");
    encoded.push(b'\n');
    encoded
}

/// With milliseconds. A clock that is beyond all dates shows the nearest.
fn timestamp(time: SystemTime) -> humantime::Rfc3339Timestamp {
    let last = SystemTime::UNIX_EPOCH + LAST_SECOND;
    humantime::format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, last))
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    // An f64 holds the microseconds of 285 years exactly, and no call lasts as long.
    duration.as_micros() as f64 / 1000.0
}

/// A value as its `Display` has it.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Compact JSON, in which every character beyond printable ASCII is a `\u` escape.
struct Ascii;

impl Formatter for Ascii {
    /// `fragment` has nothing that JSON itself demands to be escaped.
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if fragment.bytes().all(is_plain) {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if is_plain(byte) => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
