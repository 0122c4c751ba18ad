//! The log: lines on standard error. A separate thread writes them, so that a slow reader delays no call. [`metrics`] has
//! the metrics, and [`history`] the last minutes.
//!
//! Other crates log nothing below `info`, regardless of the filter. At `debug` and `trace`, HTTP and OAuth libraries
//! print headers, bodies, tokens and assertions. Crates that write to the `log` crate (yup-oauth2, reqwest, rustls)
//! are not connected.

use std::{
    env::VarError,
    io::{self, IsTerminal},
};

use tracing::{Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt},
    registry,
    util::SubscriberInitExt,
};

use settings::LogFormat;

pub mod history;
pub mod metrics;
pub mod settings;

/// The environment variable of the log filter, in the syntax of [`EnvFilter`].
pub const FILTER: &str = EnvFilter::DEFAULT_ENV;

/// The crates whose debug lines may be logged.
const OUR_CRATES: [&str; 2] = ["countermand", "countermand_emulator"];

/// The maximum of lines that wait to be written. Further lines are dropped.
const MAX_QUEUED_LINES: usize = 10_000;

/// Starts the log, with the filter in `RUST_LOG`, otherwise `default`. The guard writes the queued lines when it is
/// dropped.
///
/// # Errors
///
/// The filter is not valid.
pub fn start(format: LogFormat, default: &str) -> Result<WorkerGuard, String> {
    let given = match std::env::var(FILTER) {
        Ok(given) => given,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(_)) => return Err(format!("{FILTER}: the value is not UTF-8")),
    };
    let filter = filter(non_blank_or(&given, default)).map_err(|error| format!("{FILTER}: {error}"))?;
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_QUEUED_LINES).finish(io::stderr());
    let lines = fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(lines.with_filter(cap_other_crates(filter))).init();
    Ok(guard)
}

/// A blank value counts as unset.
fn non_blank_or<'a>(given: &'a str, default: &'a str) -> &'a str {
    if given.trim().is_empty() { default } else { given }
}

/// Parses a value of `RUST_LOG`. Surrounding blanks are ignored.
///
/// # Errors
///
/// The value is not a valid filter.
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(directives.trim()).map_err(|error| error.to_string())
}

/// Restricts `filter` to [`may_be_logged`].
///
/// Both are combined into one filter that has a level hint. Two nested filters have no hint, so every debug event of
/// h2 and hyper would be evaluated for each frame.
fn cap_other_crates<S: Subscriber>(filter: EnvFilter) -> impl Filter<S>
where
    EnvFilter: Filter<S>,
{
    // `and` returns the lower of two hints, and no hint if either filter lacks one.
    filter.and(filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE))
}

/// Events of our crates may be logged at every level, events of other crates from `info` up.
fn may_be_logged(event: &Metadata<'_>) -> bool {
    let is_ours = event.target().split("::").next().is_some_and(|root| OUR_CRATES.contains(&root));
    is_ours || *event.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::{Subscriber, subscriber::with_default};
    use tracing_subscriber::{
        Layer,
        filter::LevelFilter,
        fmt::{self, MakeWriter},
        layer::SubscriberExt,
        registry,
    };

    use super::{cap_other_crates, filter, non_blank_or};

    #[derive(Debug, Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for LogBuffer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn subscriber(directives: &str, lines: &LogBuffer) -> impl Subscriber + use<> {
        let filter = cap_other_crates(filter(directives).expect("a valid filter"));
        registry().with(fmt::layer().with_writer(lines.clone()).with_filter(filter))
    }

    fn logged(directives: &str) -> String {
        let lines = LogBuffer::default();
        with_default(subscriber(directives, &lines), || {
            tracing::info!(target: "h2::codec", "info of h2");
            tracing::debug!(target: "h2::codec", "debug of h2");
            tracing::trace!(target: "countermander", "trace of another crate");
            tracing::debug!(target: "countermand::operations", "our debug");
            tracing::info!(target: "countermand", "our info");
        });
        let bytes = lines.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("lines are text")
    }

    #[test]
    fn a_blank_filter_counts_as_unset() {
        for blank in ["", "  ", "\t\n"] {
            assert_eq!(non_blank_or(blank, "info"), "info");
        }
        assert_eq!(non_blank_or("debug", "info"), "debug");
    }

    #[test]
    fn the_filter_has_a_level_hint() {
        for (directives, hint) in [
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("info,countermand::operations=debug", LevelFilter::DEBUG),
        ] {
            let subscriber = subscriber(directives, &LogBuffer::default());
            assert_eq!(subscriber.max_level_hint(), Some(hint), "{directives}");
        }
    }

    #[test]
    fn other_crates_log_nothing_below_info() {
        let all = logged("trace,h2=trace");
        for (line, expected) in [
            ("info of h2", true),
            ("debug of h2", false),
            ("trace of another crate", false),
            ("our debug", true),
            ("our info", true),
        ] {
            assert_eq!(all.contains(line), expected, "{line}: {all}");
        }
        let default = logged("info");
        assert!(default.contains("our info") && default.contains("info of h2"), "{default}");
        assert!(!default.contains("debug"), "{default}");
    }
}
