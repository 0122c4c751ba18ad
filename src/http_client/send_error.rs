//! The error of a request without a response.

use std::{error::Error, fmt::Write};

use super::proxy::TunnelRefused;

/// A request has no response. `Display` is for the log. It may have addresses, and never has a header.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
pub struct SendError {
    /// The progress of the request, which decides whether the request may be sent again.
    pub progress: Progress,
    /// Whether the connection may be lost. The reset of one stream leaves its connection open.
    pub(super) is_connection_lost: bool,
    /// Whether the forward proxy refused the tunnel to the host.
    pub is_refused_by_proxy: bool,
    cause: String,
}

/// The progress of a request before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The request cannot be built, for example because its URL is too long. Nothing was sent.
    NotBuilt,
    /// No connection, because of DNS, routing, a proxy or TLS.
    NotConnected,
    /// The peer did not process the request: it refused the stream, or was closing the connection (RFC 9113, section
    /// 8.7).
    NotProcessed,
    /// The request was sent, at least in part. The peer may have acted on it.
    Unknown,
    /// The peer does not speak HTTP.
    NotHttp,
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        // The URL is left out, because the log line has the operation's name.
        let error = error.without_url();
        let progress = progress(&error);
        let is_connection_lost = progress != Progress::NotBuilt && !is_stream_reset(&error);
        let is_refused_by_proxy = sources(&error).any(|error| error.is::<TunnelRefused>());
        Self { progress, is_connection_lost, is_refused_by_proxy, cause: cause_of(&error) }
    }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    fn next<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        (*error).source()
    }
    std::iter::successors(error.source(), next)
}

/// Whether the peer reset one stream, and the connection stays open.
fn is_stream_reset(error: &reqwest::Error) -> bool {
    sources(error).any(|error| error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset))
}

fn progress(error: &reqwest::Error) -> Progress {
    if error.is_builder() {
        return Progress::NotBuilt;
    }
    if error.is_connect() {
        return Progress::NotConnected;
    }
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

/// The error and all its sources, in one line.
pub(super) fn cause_of(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // Many errors repeat the text of their source.
        let text = source.to_string();
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        next = source.source();
    }
    line
}
