//! `/loglevel`: shows and replaces the filter of the log.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::pages::{TEXT, page};
use crate::telemetry::log::LogLevels;

/// Responds with the filter, after the body of a POST or a PUT has replaced it.
pub(super) fn respond(levels: &LogLevels, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return page(StatusCode::OK, TEXT, levels.current() + "\n");
    }
    let from = levels.current();
    let result = match str::from_utf8(request.body()) {
        Ok(filter) if filter.trim_end().contains('\n') => Err("a filter is one line".to_owned()),
        Ok(filter) => levels.set(filter).map_err(|error| error.to_string()),
        Err(_) => Err("the filter is not UTF-8".to_owned()),
    };
    if let Err(reason) = result {
        return page(StatusCode::BAD_REQUEST, TEXT, reason + "\n");
    }
    let to = levels.current();
    tracing::warn!(from, to, "the filter of the log was changed");
    page(StatusCode::OK, TEXT, to + "\n")
}
