//! The settings of the log.

use crate::config::{Invalid, Sources, Words, settings};

settings! {
    /// The log. Its settings have flags and variables only, no keys in the file.
    pub struct LogSettings in "" {
        /// The format of log lines.
        log_format: LogFormat = "text", Words(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            env "COUNTERMAND_LOG_FORMAT", flag "--log-format FORMAT";
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text, for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Adds an error if `RUST_LOG` is not a valid filter. [`start`](super::start) reads the variable again.
pub(crate) fn check_filter(sources: &mut Sources) {
    let Some(given) = sources.variables.take(super::FILTER) else { return };
    let hint = "give levels, such as info,countermand::operations=debug";
    let filter = match given.value.to_str() {
        Some(text) => super::filter(text).map(drop).map_err(|_| Invalid::new("this is not a filter", hint)),
        None => Err(Invalid::new("the value is not UTF-8", "give plain text")),
    };
    sources.errors.ok(&given.origin, filter);
}
