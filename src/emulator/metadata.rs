//! The metadata server of a virtual machine, as far as it speaks of the machine's service account
//! (<https://cloud.google.com/compute/docs/metadata/querying-metadata>,
//! <https://cloud.google.com/compute/docs/access/authenticate-workloads>).
//!
//! Every answer names its flavor, by which a client knows that no other server has answered. That a token may
//! have any scopes that it is asked for is so on some of Google's platforms, and a guess for the others; so is
//! the 404 for an account that is disabled.

use http::header::SERVER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::account::{MACHINE, PROJECT};
use super::answer::{Answer, html, with_type};
use super::endpoint::Reply;
use super::oauth;
use super::scope::Scopes;
use super::state::{State, lock};
use super::token::Grant;

pub(super) const NOT_FOUND: &str = "The requested URL was not found on this server.";

const FLAVOR: &str = "metadata-flavor";
const ACCOUNTS: &str = "/computeMetadata/v1/instance/service-accounts/";

/// Whether a path is one for which a token is given.
pub(super) fn is_token(path: &str) -> bool {
    path.strip_prefix(ACCOUNTS).is_some_and(|rest| rest.ends_with("/token"))
}

/// Answers a request.
pub(super) fn answer(state: &State, head: &Parts) -> Reply {
    let path = head.uri.path();
    if let Err(missing) = may_ask(&head.headers, path) {
        let explanation = format!(
            "Your client does not have permission to get URL <code>{path}</code> from this server. {missing}"
        );
        return Reply::Other(page(StatusCode::FORBIDDEN, &explanation));
    }
    let query: Vec<_> = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).collect();
    let parameter = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let recursive = parameter("recursive").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if path == "/" {
        return Reply::Other(text("computeMetadata/\n"));
    }
    if path == "/computeMetadata/v1/project/project-id" {
        return Reply::Other(text(PROJECT));
    }
    let Some(rest) = path.strip_prefix(ACCOUNTS) else { return not_found() };
    let own = Scopes::of_machine();
    let shown = json!({ "aliases": ["default"], "email": MACHINE, "scopes": own.names() });
    if rest.is_empty() {
        let all = json!({ MACHINE: shown, "default": shown });
        return Reply::Other(if recursive { json(&all) } else { text(&format!("{MACHINE}/\ndefault/\n")) });
    }
    let Some(("default" | MACHINE, member)) = rest.split_once('/') else { return not_found() };
    match member {
        "" if recursive => Reply::Other(json(&shown)),
        "" => Reply::Other(text("aliases\nemail\nscopes\ntoken\n")),
        "aliases" => Reply::Other(text("default\n")),
        "email" => Reply::Other(text(MACHINE)),
        "scopes" => {
            Reply::Other(text(&own.names().iter().map(|scope| format!("{scope}\n")).collect::<String>()))
        }
        "token" => token(state, parameter("scopes"), own),
        _ => not_found(),
    }
}

/// Checks what keeps a browser or a proxy from asking for somebody else; the root may be asked by all.
fn may_ask(headers: &HeaderMap, path: &str) -> Result<(), &'static str> {
    if headers.contains_key("x-forwarded-for") {
        return Err("X-Forwarded-For header is not allowed.");
    }
    let named = headers.get(FLAVOR).is_some_and(|flavor| flavor == "Google");
    if named || path == "/" { Ok(()) } else { Err("Missing Metadata-Flavor:Google header.") }
}

fn token(state: &State, scopes: Option<&str>, own: Scopes) -> Reply {
    if lock(&state.accounts).is_disabled(MACHINE) {
        return not_found();
    }
    let scopes = match scopes.filter(|list| !list.is_empty()) {
        None => Some(own),
        Some(list) => Scopes::of(list.split(',').map(str::trim)),
    };
    let Some(scopes) = scopes else {
        return Reply::Other(page(StatusCode::BAD_REQUEST, "Invalid scopes."));
    };
    match oauth::issue(state, Grant { principal: MACHINE.into(), scopes }) {
        Ok(value) => Reply::Token(value),
        Err(_) => Reply::Other(page(StatusCode::INTERNAL_SERVER_ERROR, "The server encountered an error.")),
    }
}

fn not_found() -> Reply {
    Reply::Other(page(StatusCode::NOT_FOUND, NOT_FOUND))
}

/// JSON as the metadata server sends it, without line breaks.
pub(super) fn json(value: &Value) -> Answer {
    flavored(with_type(StatusCode::OK, value.to_string(), "application/json"))
}

pub(super) fn page(status: StatusCode, explanation: &str) -> Answer {
    flavored(html(status, explanation))
}

fn text(text: &str) -> Answer {
    flavored(with_type(StatusCode::OK, text.to_owned(), "application/text"))
}

fn flavored(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
    answer.headers_mut().insert(SERVER, HeaderValue::from_static("Metadata Server for VM"));
    answer
}
