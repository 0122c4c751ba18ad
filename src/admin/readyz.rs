//! `/readyz`: 200 while calls are served, otherwise 503, and the state of each credential.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use http_body_util::Full;
use serde::Serialize;

use super::View;
use crate::{
    credentials::{Credential, Readiness},
    serving::Serving,
};

/// The page as JSON, for a client that accepts `application/json`.
#[derive(Serialize)]
struct Page<'a> {
    ready: bool,
    draining: bool,
    credentials: Vec<Line<'a>>,
}

/// The state of a credential: `state` is `starting`, `valid` or `without`. Times are in whole seconds.
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
    /// The reason why the changed file gives no token. The earlier content stays in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_file: Option<String>,
    /// An operator must repair the credential.
    permanent: bool,
}

pub(super) fn ready(view: &View, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let (serving, credentials) = (*view.serving.borrow(), view.credentials.active());
    let status = match serving {
        Serving::Ready => StatusCode::OK,
        Serving::NotReady | Serving::Leaving | Serving::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let draining = matches!(serving, Serving::Leaving | Serving::Draining);
    let wants_json = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|a| a.contains("application/json")));
    if wants_json {
        let credentials = credentials.iter().map(line).collect();
        let page = Page { ready: status == StatusCode::OK, draining, credentials };
        let json = serde_json::to_vec(&page).expect("strings, numbers and booleans");
        return super::page(status, "application/json", json);
    }
    let mut page = if status == StatusCode::OK { "ready\n" } else { "not ready\n" }.to_owned();
    if draining {
        page.push_str("draining: send no new calls\n");
    }
    for credential in credentials.iter() {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "credential {}: {}", credential.name(), credential.status());
    }
    super::page(status, "text/plain; charset=utf-8", page)
}

fn line(credential: &Credential) -> Line<'_> {
    let status = credential.status();
    let mut line = Line {
        name: credential.name(),
        cause: status.cause(),
        permanent: status.is_permanent(),
        changed_file: status.changed_file().map(str::to_owned),
        ..Line::default()
    };
    match status.readiness() {
        Readiness::Starting => line.state = "starting",
        Readiness::Ready => (line.state, line.valid_for_s) = ("valid", Some(status.token_left().as_secs())),
        Readiness::NotReady => {
            (line.state, line.without_for_s) = ("without", Some(status.without_token_for().as_secs()));
        }
    }
    line
}
