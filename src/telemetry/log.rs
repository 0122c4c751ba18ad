//! The log: lines on standard error. A separate thread writes them, so that a slow reader delays no call.
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
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt},
    registry, reload,
    util::SubscriberInitExt,
};

use super::settings::LogFormat;

/// The environment variable of the log filter, in the syntax of [`EnvFilter`].
pub const FILTER: &str = EnvFilter::DEFAULT_ENV;

/// The crates whose debug lines may be logged.
const OUR_CRATES: [&str; 2] = ["countermand", "countermand_emulator"];

/// The maximum of lines that wait to be written. Further lines are dropped.
const MAX_QUEUED_LINES: usize = 10_000;

/// The running log. Its drop writes the queued lines.
pub struct Log {
    /// The filter.
    pub levels: LogLevels,
    _writer: WorkerGuard,
}

/// The filter of the running log. Cheap to clone. [`may_be_logged`] applies whatever the filter is.
#[derive(Clone, Debug)]
pub struct LogLevels(reload::Handle<EnvFilter, Registry>);

/// The filter was not changed. The text has the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

impl LogLevels {
    /// The filter, in the syntax of [`EnvFilter`]. Empty if the log has ended.
    #[must_use]
    pub fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Replaces the filter until the process ends.
    ///
    /// # Errors
    ///
    /// The text is empty or not a valid filter, or the log has ended. The filter is unchanged.
    pub fn set(&self, directives: &str) -> Result<(), FilterError> {
        if directives.trim().is_empty() {
            return Err(FilterError("the filter is empty".to_owned()));
        }
        let filter = filter(directives).map_err(FilterError)?;
        self.0.reload(filter).map_err(|error| FilterError(error.to_string()))
    }
}

/// Starts the log, with the filter in `RUST_LOG`, otherwise `default`.
///
/// # Errors
///
/// The filter is not valid.
pub fn start(format: LogFormat, default: &str) -> Result<Log, String> {
    let given = match std::env::var(FILTER) {
        Ok(given) => given,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(_)) => return Err(format!("{FILTER}: the value is not UTF-8")),
    };
    let filter = filter(non_blank_or(&given, default)).map_err(|error| format!("{FILTER}: {error}"))?;
    let (filter, levels) = reload::Layer::new(filter);
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_QUEUED_LINES).finish(io::stderr());
    // `NO_COLOR` is a convention (no-color.org).
    let has_colors =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_writer(writer).with_ansi(has_colors);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(lines.with_filter(cap_other_crates(filter))).init();
    Ok(Log { levels: LogLevels(levels), _writer: guard })
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
fn cap_other_crates<S: Subscriber>(filter: impl Filter<S>) -> impl Filter<S> {
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
        registry, reload,
    };

    use super::{LogLevels, cap_other_crates, filter, non_blank_or};

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

    /// A subscriber whose filter can be replaced.
    fn reloadable(directives: &str, lines: &LogBuffer) -> (impl Subscriber + use<>, LogLevels) {
        let (filter, levels) = reload::Layer::new(filter(directives).expect("a valid filter"));
        let layer = fmt::layer().with_writer(lines.clone()).with_filter(cap_other_crates(filter));
        (registry().with(layer), LogLevels(levels))
    }

    fn text(lines: &LogBuffer) -> String {
        String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("lines are text")
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
        text(&lines)
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

    #[test]
    fn the_filter_can_be_replaced_and_other_crates_stay_capped() {
        let lines = LogBuffer::default();
        let (subscriber, levels) = reloadable("info", &lines);
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::INFO));
        with_default(subscriber, || {
            let log = || {
                tracing::debug!(target: "countermand::operations", "our debug");
                tracing::debug!(target: "h2::codec", "debug of h2");
            };
            log();
            assert_eq!(text(&lines), "");
            levels.set(" trace,h2=trace ").expect("a valid filter");
            assert_eq!(LevelFilter::current(), LevelFilter::TRACE);
            log();
            assert_eq!(text(&lines).matches("our debug").count(), 1);
            levels.set("warn").expect("a valid filter");
            log();
            assert_eq!(text(&lines).matches("debug").count(), 1);
        });
        assert!(!text(&lines).contains("h2"), "{}", text(&lines));
    }

    #[test]
    fn an_invalid_filter_changes_nothing() {
        let (_subscriber, levels) = reloadable("info,countermand=debug", &LogBuffer::default());
        for invalid in ["", " \n", "info,countermand=loud", "a=b=c"] {
            assert!(levels.set(invalid).is_err(), "{invalid:?}");
        }
        assert_eq!(levels.current(), "countermand=debug,info");
    }
}
