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
use crate::server::settings::Limits;

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
