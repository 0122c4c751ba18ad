//! The metadata server of a virtual machine: the machine's service account and its tokens
//! (<https://cloud.google.com/compute/docs/metadata/querying-metadata>,
//! <https://cloud.google.com/compute/docs/access/authenticate-workloads>).
//!
//! Every response has the header `Metadata-Flavor`, by which a client recognizes the server. On some of Google's
//! platforms, a token can have any scopes. The same behaviour on all platforms, and the 404 for a disabled account,
//! are guesses.

use http::header::SERVER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::access_token::{Scopes, TokenGrant};
use crate::account::{MACHINE_ACCOUNT, PROJECT};
use crate::response::{HttpResponse, html, with_type};
use crate::shared::{Shared, lock};
use crate::token_endpoint;
use crate::token_route::TokenResponse;

const FLAVOR: &str = "metadata-flavor";
const ACCOUNTS: &str = "/computeMetadata/v1/instance/service-accounts/";

/// Whether a path is that of a token.
pub(crate) fn is_token_path(path: &str) -> bool {
    path.strip_prefix(ACCOUNTS).is_some_and(|rest| rest.ends_with("/token"))
}

/// Handles a request.
pub(crate) fn respond(shared: &Shared, head: &Parts) -> TokenResponse {
    let path = head.uri.path();
    if let Err(problem) = check_headers(&head.headers, path) {
        let explanation = format!(
            "Your client does not have permission to get URL <code>{path}</code> from this server. {problem}"
        );
        return TokenResponse::Other(page(StatusCode::FORBIDDEN, &explanation));
    }
    let query: Vec<_> = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).collect();
    let parameter = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let account = path.strip_prefix(ACCOUNTS).and_then(|rest| rest.split_once('/'));
    TokenResponse::Other(match (path, account) {
        ("/", _) => text("computeMetadata/\n"),
        ("/computeMetadata/v1/project/project-id", _) => text(PROJECT),
        (_, Some(("default" | MACHINE_ACCOUNT, "email"))) => text(MACHINE_ACCOUNT),
        (_, Some(("default" | MACHINE_ACCOUNT, "scopes"))) => {
            text(&Scopes::of_machine().names().iter().map(|scope| format!("{scope}\n")).collect::<String>())
        }
        (_, Some(("default" | MACHINE_ACCOUNT, "token"))) => return token(shared, parameter("scopes")),
        (_, Some(("default" | MACHINE_ACCOUNT, "")))
            if parameter("recursive").is_some_and(|value| value.eq_ignore_ascii_case("true")) =>
        {
            let scopes = Scopes::of_machine();
            json(&json!({ "aliases": ["default"], "email": MACHINE_ACCOUNT, "scopes": scopes.names() }))
        }
        _ => not_found(),
    })
}

/// Checks the headers that protect against forged requests of a browser and against proxies. The root path needs no
/// flavor.
fn check_headers(headers: &HeaderMap, path: &str) -> Result<(), &'static str> {
    if headers.contains_key("x-forwarded-for") {
        return Err("X-Forwarded-For header is not allowed.");
    }
    let has_flavor = headers.get(FLAVOR).is_some_and(|flavor| flavor == "Google");
    if has_flavor || path == "/" { Ok(()) } else { Err("Missing Metadata-Flavor:Google header.") }
}

fn token(shared: &Shared, scopes: Option<&str>) -> TokenResponse {
    if lock(&shared.accounts).is_disabled(MACHINE_ACCOUNT) {
        return TokenResponse::Other(not_found());
    }
    let scopes = match scopes.filter(|list| !list.is_empty()) {
        None => Some(Scopes::of_machine()),
        Some(list) => Scopes::of(list.split(',').map(str::trim)),
    };
    let Some(scopes) = scopes else {
        return TokenResponse::Other(page(StatusCode::BAD_REQUEST, "Invalid scopes."));
    };
    match token_endpoint::issue(shared, TokenGrant { principal: MACHINE_ACCOUNT.into(), scopes }) {
        Ok(value) => TokenResponse::Token(value),
        Err(error) => TokenResponse::Other(page(error.http, "The server encountered an error.")),
    }
}

/// JSON as the metadata server sends it, without line breaks.
pub(crate) fn json(value: &Value) -> HttpResponse {
    flavored(with_type(StatusCode::OK, value.to_string(), "application/json"))
}

pub(crate) fn not_found() -> HttpResponse {
    page(StatusCode::NOT_FOUND, "The requested URL was not found on this server.")
}

pub(crate) fn page(status: StatusCode, explanation: &str) -> HttpResponse {
    flavored(html(status, explanation))
}

fn text(text: &str) -> HttpResponse {
    flavored(with_type(StatusCode::OK, text.to_owned(), "application/text"))
}

fn flavored(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
    response.headers_mut().insert(SERVER, HeaderValue::from_static("Metadata Server for VM"));
    response
}
