//! The settings of the log. `RUST_LOG` filters it.

use crate::config::{Invalid, Sources, Words, settings};

settings! {
    /// The log. It is set by flags and variables only.
    pub struct Log in "" {
        /// The form of log lines.
        log_format: LogFormat = "text", Words(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            env "COUNTERMAND_LOG_FORMAT", flag "--log-format FORMAT";
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Adds an error if `RUST_LOG` is not a valid filter. The log reads the variable itself.
pub(crate) fn check_filter(sources: &mut Sources) {
    let Some(given) = sources.variables.take(super::FILTER) else { return };
    let hint = "give levels, such as info,countermand::operations=debug";
    let filter = match given.value.to_str() {
        Some(text) => super::filter(text).map(drop).map_err(|_| Invalid::new("this is not a filter", hint)),
        None => Err(Invalid::new("the value is not UTF-8", "give plain text")),
    };
    sources.errors.ok(&given.origin, filter);
}
