//! One request to the API, from its head to its answer.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::access::{ANDROID_MANAGEMENT_API, authorise, bearer};
use super::account::PROJECT;
use super::command::Command;
use super::list;
use super::refusal::Refusal;
use super::route::Call;
use super::settings::Fault;
use super::state::{State, lock};

/// The query parameters of a call.
pub(super) struct Parameters {
    list: list::Query,
    access_token: Option<String>,
    /// `prettyPrint`: with line breaks, unless asked otherwise.
    pub(super) pretty: bool,
}

impl Parameters {
    /// Reads the query of a call: the parameters that every method has (discovery document,
    /// `parameters`) and those of list. As at Google, any other is an error.
    pub(super) fn parse(call: &Call, query: &str) -> Result<Self, Refusal> {
        let mut read = Self { list: list::Query::default(), access_token: None, pretty: true };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("alt" | "$alt", "json") => {}
                ("alt" | "$alt" | "fields" | "callback", _) => {
                    let message = format!("The emulator does not support {name}={value}.");
                    return Err(Refusal::unimplemented(message));
                }
                ("prettyPrint" | "$prettyPrint", value) => read.pretty = value != "false",
                ("access_token" | "oauth_token", value) => {
                    read.access_token = Some(value.to_owned());
                }
                ("key" | "quotaUser" | "uploadType" | "upload_protocol" | "$.xgafv", _) => {}
                (name, value) => {
                    let known = matches!(call, Call::List(_)) && read.list.read(name, value)?;
                    if !known {
                        let message = format!(
                            "Invalid JSON payload received. Unknown name {0}: Cannot bind query \
                             parameter. Field '{name}' could not be found in request message.",
                            Value::from(name)
                        );
                        return Err(Refusal::invalid_argument("", message));
                    }
                }
            }
        }
        Ok(read)
    }
}

/// The fault that a call meets, if any: the scripted ones first, then chance.
pub(super) fn fault(state: &State) -> Option<Fault> {
    let scripted = lock(&state.script).pop_front();
    scripted.or_else(|| lock(&state.settings).faults.at(fastrand::f64()))
}

/// The error that a fault other than a reset shows.
pub(super) fn refusal_of(fault: Fault, state: &State) -> Option<Refusal> {
    match fault {
        Fault::Reset => None,
        Fault::Unavailable => Some(Refusal::unavailable()),
        Fault::Exhausted => Some(exhausted(state)),
    }
}

fn exhausted(state: &State) -> Refusal {
    let limit = lock(&state.settings).quota.unwrap_or_default().queries;
    Refusal::exhausted(PROJECT, limit)
}

/// Carries out a call: the answer's JSON.
pub(super) fn carry_out(
    state: &State,
    call: &Call,
    head: &Parts,
    parameters: &Parameters,
    body: &[u8],
) -> Result<Value, Refusal> {
    let now = Instant::now();
    let token = bearer(head).or(parameters.access_token.as_deref());
    let holder = token.and_then(|token| lock(&state.tokens).holder(token));
    if let Some(principal) = holder {
        lock(&state.callers).note(principal);
    }
    authorise(state, token, &ANDROID_MANAGEMENT_API, call.method(), now)?;
    let settings = lock(&state.settings);
    if settings.quota.is_some_and(|quota| !lock(&state.window).admit(quota, now)) {
        drop(settings);
        return Err(exhausted(state));
    }
    let mut store = lock(&state.store);
    match call {
        Call::Issue(device) => {
            let command = Command::parse(json_body(head, body)?)?;
            store.issue(device, command, &settings, now)
        }
        Call::List(device) => parameters.list.page(device, &store, &settings, now),
        Call::Get(device, id) => store.get(device, id, now),
        Call::Cancel(device, id) => {
            demand_empty(body)?;
            store.cancel(device, id, settings.cancel_delay, now).map(|()| json!({}))
        }
    }
}

/// Whether a request says that its body is JSON.
fn is_json(head: &Parts) -> bool {
    let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The JSON of a request's body.
pub(super) fn json_body(head: &Parts, body: &[u8]) -> Result<Value, Refusal> {
    if !is_json(head) {
        let message = "The body of a request must be of the content type application/json.";
        return Err(Refusal::invalid_argument("", message));
    }
    serde_json::from_slice(body).map_err(|error| {
        // Only the place: the text around it may be a password.
        let (line, column) = (error.line(), error.column());
        let message = format!("Invalid JSON payload received. Malformed at line {line}, column {column}.");
        Refusal::invalid_argument("", message)
    })
}

/// Refuses a body that says anything. The discovery document gives cancel no request at all; an empty
/// message says as little, so `{}` passes too, whatever its content type.
fn demand_empty(body: &[u8]) -> Result<(), Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let first = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => match fields.keys().next() {
            None => return Ok(()),
            Some(name) => format!("Unknown name {}: Cannot find field.", Value::from(name.as_str())),
        },
        _ => "The request body must be empty.".to_owned(),
    };
    Err(Refusal::invalid_argument("", format!("Invalid JSON payload received. {first}")))
}
