//! `/readyz`: 200 while calls are welcome, else 503; and of each credential, how it stands.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use http_body_util::Full;
use serde::Serialize;

use super::View;
use crate::{
    credentials::{Credential, Standing},
    serving::Serving,
};

/// The page as JSON, for who accepts `application/json`.
#[derive(Serialize)]
struct Page<'a> {
    ready: bool,
    draining: bool,
    credentials: Vec<Line<'a>>,
}

/// A credential: `state` is `starting`, `valid` or `without`; times are in whole seconds.
#[derive(Default, Serialize)]
struct Line<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_for_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_for_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Why the changed file gives no token, while the one before it still does.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_file: Option<String>,
    /// Somebody has to mend it.
    for_good: bool,
}

pub(super) fn ready(view: &View, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let serving = *view.serving.borrow();
    let status = match serving {
        Serving::Ready => StatusCode::OK,
        Serving::NotReady | Serving::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let draining = serving == Serving::Draining;
    let wants_json = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|a| a.contains("application/json")));
    if wants_json {
        let credentials = view.credentials.iter().map(line).collect();
        let page = Page { ready: status == StatusCode::OK, draining, credentials };
        let json = serde_json::to_vec(&page).expect("strings, numbers and booleans");
        return super::page(status, "application/json", json);
    }
    let mut page = if status == StatusCode::OK { "ready\n" } else { "not ready\n" }.to_owned();
    if draining {
        page.push_str("draining: no new calls, please\n");
    }
    for credential in view.credentials.iter() {
        // A String takes whatever is written to it.
        let _ = writeln!(page, "credential {}: {}", credential.name(), credential.standing());
    }
    super::page(status, "text/plain; charset=utf-8", page)
}

fn line(credential: &Credential) -> Line<'_> {
    let name = &**credential.name();
    match credential.standing() {
        Standing::Starting { cause } => Line { name, state: "starting", cause, ..Line::default() },
        Standing::Valid { left, failing, changed } => {
            let valid_for_s = Some(left.as_secs());
            let (cause, changed_file) = (failing, changed);
            Line { name, state: "valid", valid_for_s, cause, changed_file, ..Line::default() }
        }
        Standing::Without { since, cause, for_good } => Line {
            name,
            state: "without",
            without_for_s: Some(since.as_secs()),
            cause: Some(cause),
            for_good,
            ..Line::default()
        },
    }
}
