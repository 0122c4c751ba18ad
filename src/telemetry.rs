//! The log: lines on standard error, which a slow reader never makes a call wait for.
//!
//! Whatever the filter says, other people's code logs nothing below `info`: at `debug` and `trace`, HTTP
//! and OAuth libraries print headers, bodies, tokens and assertions. Those that write to the `log` crate
//! (yup-oauth2, reqwest, rustls) are not connected at all.

use std::{
    env::VarError,
    io::{self, IsTerminal},
};

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// The variable that says what is logged, in the syntax of [`EnvFilter`].
pub const FILTER: &str = EnvFilter::DEFAULT_ENV;

/// Lines that wait to be written; those beyond are dropped rather than waited for.
const LINES: usize = 10_000;

/// Starts the log, in `format`, with the filter that `RUST_LOG` gives, else `default`. Lines are written
/// until the guard is dropped.
///
/// # Errors
///
/// The filter cannot be understood.
pub fn start(format: LogFormat, default: &str) -> Result<WorkerGuard, String> {
    let given = match std::env::var(FILTER) {
        Ok(given) => given,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(_)) => return Err(format!("{FILTER}: the value is not UTF-8")),
    };
    let filter = filter(given_or(&given, default)).map_err(|error| format!("{FILTER}: {error}"))?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(io::stderr());
    let lines = fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(lines.with_filter(filter).with_filter(filter_fn(may_be_logged))).init();
    Ok(guard)
}

/// A blank value is none, as an empty one is.
fn given_or<'a>(given: &'a str, default: &'a str) -> &'a str {
    if given.trim().is_empty() { default } else { given }
}

/// What a value of `RUST_LOG` means, less the blanks around it.
///
/// # Errors
///
/// It cannot be understood.
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(directives.trim()).map_err(|error| error.to_string())
}

/// Our own lines at every level, those of others from `info` up.
fn may_be_logged(line: &Metadata<'_>) -> bool {
    let ours = line.target() == "countermand" || line.target().starts_with("countermand::");
    ours || *line.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::given_or;

    #[test]
    fn a_blank_filter_is_none() {
        for blank in ["", "  ", "\t\n"] {
            assert_eq!(given_or(blank, "info"), "info");
        }
        assert_eq!(given_or("debug", "info"), "debug");
    }
}
