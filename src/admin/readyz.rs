//! `/readyz`: 200 while calls are served, otherwise 503, and the state of each credential. The causes are on pages with
//! [`Detail::Causes`] only.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use http_body_util::Full;
use serde::Serialize;

use super::pages::{Detail, Pages, TEXT, page};
use crate::{
    credentials::{Credential, Readiness},
    serving::Serving,
};

/// The page as JSON, for a client that accepts `application/json`.
#[derive(Serialize)]
struct ReadyPage {
    ready: bool,
    draining: bool,
    credentials: Vec<CredentialLine>,
}

/// The state of a credential: `state` is `starting`, `valid` or `without`. Times are in whole seconds.
#[derive(Default, Serialize)]
pub(super) struct CredentialLine {
    pub(super) name: String,
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) valid_for_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) without_for_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    /// The reason why the changed file gives no token. The earlier content stays in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changed_file: Option<String>,
    /// An operator must repair the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) permanent: Option<bool>,
}

pub(super) fn ready(pages: &Pages, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let (serving, credentials) = (*pages.serving.borrow(), pages.credentials.active());
    let status = match serving {
        Serving::Ready => StatusCode::OK,
        Serving::NotReady | Serving::Leaving | Serving::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let draining = matches!(serving, Serving::Leaving | Serving::Draining);
    let wants_json = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|a| a.contains("application/json")));
    let lines = credentials.iter().map(|credential| line(credential, pages.detail()));
    if wants_json {
        let ready = ReadyPage { ready: status == StatusCode::OK, draining, credentials: lines.collect() };
        let json = serde_json::to_vec(&ready).expect("strings, numbers and booleans");
        return page(status, "application/json", json);
    }
    let mut text = if status == StatusCode::OK { "ready\n" } else { "not ready\n" }.to_owned();
    if draining {
        text.push_str("draining: send no new calls\n");
    }
    match pages.detail() {
        Detail::Causes => {
            for credential in credentials.iter() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "credential {}: {}", credential.name(), credential.status());
            }
        }
        Detail::States => {
            for CredentialLine { name, state, .. } in lines {
                let _ = writeln!(text, "credential {name}: {state}");
            }
        }
    }
    page(status, TEXT, text)
}

pub(super) fn line(credential: &Credential, detail: Detail) -> CredentialLine {
    let status = credential.status();
    let mut line = CredentialLine { name: credential.name().to_string(), ..CredentialLine::default() };
    match status.readiness() {
        Readiness::Starting => line.state = "starting",
        Readiness::Ready => (line.state, line.valid_for_s) = ("valid", Some(status.token_left().as_secs())),
        Readiness::NotReady => {
            (line.state, line.without_for_s) = ("without", Some(status.without_token_for().as_secs()));
        }
    }
    match detail {
        Detail::Causes => {
            line.cause = status.cause();
            line.permanent = Some(status.is_permanent());
            line.changed_file = status.changed_file().map(str::to_owned);
        }
        Detail::States => {}
    }
    line
}
