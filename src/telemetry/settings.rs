//! The settings of the log and of the telemetry listener.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::Path,
};

use crate::config::{Invalid, Parsed, Sources, Words, address::tcp_address, settings};

settings! {
    /// The log. Its settings have flags and variables only, no keys in the file.
    pub struct LogSettings in "" {
        /// The format of log lines. The default is text on a terminal, otherwise JSON.
        log_format: Option<LogFormat>, Words(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            env "COUNTERMAND_LOG_FORMAT", flag "--log-format FORMAT";
    }
}

settings! {
    /// `[telemetry]`: the listener for monitoring.
    pub struct Telemetry in "telemetry" {
        /// Serve /metrics, /livez and /readyz here, in plaintext, for Prometheus and probes on other machines. These
        /// pages have no caller, enterprise, device or operation, and no causes of errors. The admin port has the
        /// same pages, with causes.
        listen: Option<SocketAddr>, Parsed { form: "host:port", parse: address }, env "COUNTERMAND_TELEMETRY_LISTEN";
    }
}

fn address(text: &str, _: &Path) -> Result<SocketAddr, Invalid> {
    let hint = "give host:port, for example 0.0.0.0:9465, or leave it out";
    if text.starts_with("unix:") {
        return Err(Invalid::new("the telemetry listener cannot be a unix socket", hint));
    }
    tcp_address(text, hint)
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text, for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The format without a setting: text if standard error is a terminal, otherwise JSON.
    #[must_use]
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Adds an error if `RUST_LOG` is not a valid filter. [`start`](super::log::start) reads the variable again.
pub(crate) fn check_filter(sources: &mut Sources) {
    let Some(given) = sources.variables.take(super::log::FILTER) else { return };
    let hint = "give levels, such as info,countermand::operations=debug";
    let filter = match given.value.to_str() {
        Some(text) => {
            super::log::filter(text).map(drop).map_err(|_| Invalid::new("this is not a filter", hint))
        }
        None => Err(Invalid::new("the value is not UTF-8", "give plain text")),
    };
    sources.errors.ok(&given.origin, filter);
}
