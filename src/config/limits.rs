//! The limits of `[server]`: what a caller may take before any work is done for it. Each has a key of this
//! name in the section and a variable, `COUNTERMAND_` and the name in capitals.

use std::time::Duration;

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    source::duration,
    sources::Sources,
    table::Section,
};

/// What bounds connections, and the calls on them. Durations are from 1 ms to 1 h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, over all listeners; 1 to 1,000,000. One beyond is closed at once.
    pub max_connections: usize,
    /// TLS handshakes under way at once, over all listeners; 1 to 100,000.
    pub max_handshakes: usize,
    /// How long a connection may take until it speaks HTTP/2, TLS included.
    pub handshake_timeout: Duration,
    /// Calls in flight at once, over all connections; 1 to 1,000,000. One beyond is UNAVAILABLE.
    pub max_concurrent_calls: usize,
    /// The longest request message; 1,024 to 4,194,304 bytes. A longer one is OUT_OF_RANGE, as tonic has it.
    pub max_request_bytes: usize,
    /// The largest header list, counted as RFC 9113 does in section 6.5.2; 1,024 to 1,048,576 bytes.
    pub max_header_list_bytes: u32,
    /// Calls at once on one connection (SETTINGS_MAX_CONCURRENT_STREAMS); 1 to 1,000,000. A client queues
    /// what is beyond.
    pub max_streams_per_connection: u32,
    /// Calls of one connection that were reset before they were even looked at, at one time; 1 to 1,000,000.
    /// A connection with more is closed (GOAWAY, ENHANCE_YOUR_CALM).
    pub max_pending_resets: usize,
    /// Calls of one connection that end in a reset soon after they began, in one [`Self::reset_window`], and
    /// breaches of HTTP/2 that make us reset a stream, in its life; 1 to 1,000,000. A connection with more is
    /// closed.
    pub max_resets_per_window: usize,
    /// The window in which those are counted.
    pub reset_window: Duration,
    /// A peer that has not been heard of for this long is asked for a sign of life, by an HTTP/2 PING.
    pub keepalive_interval: Duration,
    /// How long that may take to come.
    pub keepalive_timeout: Duration,
    /// How old a connection gets before it takes no more calls (GOAWAY), give or take a tenth; `None`
    /// (`"off"`) for no bound.
    pub max_connection_age: Option<Duration>,
    /// How long the calls in flight may then take to finish.
    pub max_connection_age_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_connections: 10_000,
            max_handshakes: 256,
            handshake_timeout: seconds(10),
            max_concurrent_calls: 4096,
            // A name is at most 804 characters, a filter is the rest.
            max_request_bytes: 64 * 1024,
            // The headers of a Python future grow by one with each poll (google.api_core,
            // `operation.from_gapic` with `grpc_metadata`).
            max_header_list_bytes: 64 * 1024,
            max_streams_per_connection: 1024,
            max_pending_resets: 256,
            // As many as may be in flight: all callers of one proxy may give up at once.
            max_resets_per_window: 4096,
            reset_window: seconds(30),
            keepalive_interval: seconds(30),
            keepalive_timeout: seconds(10),
            // A client's certificate is looked at when it connects, and balancers place connections, not
            // calls: neither may count for ever.
            max_connection_age: Some(seconds(30 * 60)),
            // The longest wait, `polling.max_wait`, and its answer.
            max_connection_age_grace: seconds(11 * 60),
        }
    }
}

impl Limits {
    pub(super) fn read(environment: &mut Environment, file: &mut Section<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let mut from = Sources { environment, file, faults };
        Self {
            max_connections: from.number(
                "COUNTERMAND_MAX_CONNECTIONS",
                "max_connections",
                1..=1_000_000,
                default.max_connections,
            ),
            max_handshakes: from.number(
                "COUNTERMAND_MAX_HANDSHAKES",
                "max_handshakes",
                1..=100_000,
                default.max_handshakes,
            ),
            handshake_timeout: from.time(
                "COUNTERMAND_HANDSHAKE_TIMEOUT",
                "handshake_timeout",
                default.handshake_timeout,
            ),
            max_concurrent_calls: from.number(
                "COUNTERMAND_MAX_CONCURRENT_CALLS",
                "max_concurrent_calls",
                1..=1_000_000,
                default.max_concurrent_calls,
            ),
            max_request_bytes: from.number(
                "COUNTERMAND_MAX_REQUEST_BYTES",
                "max_request_bytes",
                1024..=4 * 1024 * 1024,
                default.max_request_bytes,
            ),
            max_header_list_bytes: from.number(
                "COUNTERMAND_MAX_HEADER_LIST_BYTES",
                "max_header_list_bytes",
                1024..=1024 * 1024,
                default.max_header_list_bytes,
            ),
            max_streams_per_connection: from.number(
                "COUNTERMAND_MAX_STREAMS_PER_CONNECTION",
                "max_streams_per_connection",
                1..=1_000_000,
                default.max_streams_per_connection,
            ),
            max_pending_resets: from.number(
                "COUNTERMAND_MAX_PENDING_RESETS",
                "max_pending_resets",
                1..=1_000_000,
                default.max_pending_resets,
            ),
            max_resets_per_window: from.number(
                "COUNTERMAND_MAX_RESETS_PER_WINDOW",
                "max_resets_per_window",
                1..=1_000_000,
                default.max_resets_per_window,
            ),
            reset_window: from.time("COUNTERMAND_RESET_WINDOW", "reset_window", default.reset_window),
            keepalive_interval: from.time(
                "COUNTERMAND_KEEPALIVE_INTERVAL",
                "keepalive_interval",
                default.keepalive_interval,
            ),
            keepalive_timeout: from.time(
                "COUNTERMAND_KEEPALIVE_TIMEOUT",
                "keepalive_timeout",
                default.keepalive_timeout,
            ),
            max_connection_age: from.read(
                "COUNTERMAND_MAX_CONNECTION_AGE",
                "max_connection_age",
                age,
                default.max_connection_age,
            ),
            max_connection_age_grace: from.time(
                "COUNTERMAND_MAX_CONNECTION_AGE_GRACE",
                "max_connection_age_grace",
                default.max_connection_age_grace,
            ),
        }
    }
}

fn age(text: &str) -> Result<Option<Duration>, Wrong> {
    match text {
        "off" => Ok(None),
        text => match duration(text) {
            Ok(age) => Ok(Some(age)),
            Err(wrong) => Err(Wrong::new(wrong.problem, format!(r#"{}, or "off""#, wrong.remedy))),
        },
    }
}
