//! A request without a response: how far it went, and why.

use std::{error::Error, fmt::Write};

/// A request without a response. `Display` is for the log: it may name addresses, never a header.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    /// How far the request went, which decides whether it may be sent again.
    pub progress: Progress,
    /// Whether the connection may be gone. The reset of one stream says nothing of its connection.
    pub(super) is_connection_lost: bool,
    cause: String,
}

/// How far a request went before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No connection: names, routes, a proxy, TLS.
    NotConnected,
    /// The peer says, or the connection's state shows, that it did not process the request: a refused stream, or a
    /// connection that was being closed (RFC 9113, section 8.7).
    NotProcessed,
    /// It was sent, at least in part, and the peer may have acted on it.
    Unknown,
    /// The peer does not speak HTTP.
    NotHttp,
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The URL is left out: the log line already has the operation's name.
        let error = error.without_url();
        let progress = if error.is_connect() { Progress::NotConnected } else { progress(&error) };
        Self { progress, is_connection_lost: !is_stream_reset(&error), cause: cause_of(&error) }
    }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    fn next<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        (*error).source()
    }
    std::iter::successors(error.source(), next)
}

/// Whether the peer reset one stream, and the connection goes on.
fn is_stream_reset(error: &reqwest::Error) -> bool {
    sources(error).any(|error| error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset))
}

fn progress(error: &reqwest::Error) -> Progress {
    for error in sources(error) {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let going_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            if error.is_remote() && (refused || going_away) {
                return Progress::NotProcessed;
            }
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_canceled() {
                return Progress::NotProcessed;
            }
            if error.is_parse() {
                return Progress::NotHttp;
            }
        }
    }
    Progress::Unknown
}

/// The error and all its sources in one line.
pub(super) fn cause_of(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // Many layers repeat the text of the one below.
        let text = source.to_string();
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        next = source.source();
    }
    line
}
