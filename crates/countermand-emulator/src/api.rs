//! Calls to the Android Management API.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::access_token::{ANDROID_MANAGEMENT_API, authorize, bearer};
use crate::account::PROJECT;
use crate::api_error::ApiError;
use crate::command::Command;
use crate::device_list::DevicesQuery;
use crate::list::ListQuery;
use crate::response::{self, HttpResponse};
use crate::route::ApiCall;
use crate::settings::{DeviceFault, Fault};
use crate::shared::{Shared, lock};

/// Handles a call. Returns `None` to reset the connection.
pub(crate) async fn respond(
    shared: &Shared,
    call: &ApiCall,
    head: &Parts,
    body: &[u8],
) -> Option<HttpResponse> {
    let latency = lock(&shared.settings).latency;
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let fault = match device_fault(shared, call) {
        Some(DeviceFault::Slow(latency)) => {
            sleep(latency).await;
            None
        }
        Some(DeviceFault::Failing(fault)) => Some(fault),
        None => None,
    };
    let fault = fault.or_else(|| lock(&shared.queued_faults).pop_front());
    let result = match fault.or_else(|| lock(&shared.settings).faults.at(fastrand::f64())) {
        Some(Fault::Reset) => None,
        Some(Fault::Unavailable) => Some(Err(ApiError::unavailable())),
        Some(Fault::Exhausted) => Some(Err(exhausted(shared))),
        None => Some(perform(shared, call, head, body)),
    };
    let response = result.map(|result| match result {
        Ok(value) => response::json(StatusCode::OK, &value),
        Err(error) => response::api_error(&error),
    });
    if let Some(log) = &shared.call_log {
        lock(log).append(call, response.as_ref());
    }
    response
}

/// The fault of the device that the call is about.
fn device_fault(shared: &Shared, call: &ApiCall) -> Option<DeviceFault> {
    match call {
        ApiCall::Devices(_) => None,
        ApiCall::Issue(device)
        | ApiCall::List(device)
        | ApiCall::Get(device, _)
        | ApiCall::Cancel(device, _) => lock(&shared.device_faults).get(&device.to_string()).copied(),
    }
}

fn exhausted(shared: &Shared) -> ApiError {
    ApiError::exhausted(PROJECT, lock(&shared.settings).quota.queries.unwrap_or(1000))
}

fn perform(shared: &Shared, call: &ApiCall, head: &Parts, body: &[u8]) -> Result<Value, ApiError> {
    let now = Instant::now();
    let (query, devices_query) = parameters(call, head.uri.query().unwrap_or_default())?;
    let token = bearer(head);
    let principal = token.and_then(|token| lock(&shared.tokens).principal(token));
    if let Some(principal) = principal {
        lock(&shared.callers).record(principal);
    }
    authorize(shared, token, &ANDROID_MANAGEMENT_API, call.method(), now)?;
    let settings = lock(&shared.settings);
    if let Some(denial) = settings.denial {
        return Err(ApiError::denied(denial, PROJECT));
    }
    if !lock(&shared.quota).admit(settings.quota, now) {
        drop(settings);
        return Err(exhausted(shared));
    }
    let mut store = lock(&shared.store);
    match call {
        ApiCall::Issue(device) => {
            store.issue(device, Command::parse(json_body(head, body)?)?, &settings, now)
        }
        ApiCall::Devices(enterprise) => devices_query.page(enterprise, &store, &settings),
        ApiCall::List(device) => query.page(device, &store, &settings, now),
        ApiCall::Get(device, id) => store.get(device, id, now),
        ApiCall::Cancel(device, id) => {
            require_empty(body)?;
            store.cancel(device, id, settings.cancel_delay, now).map(|()| json!({}))
        }
    }
}

/// Reads the query parameters: those that Google's clients send with every method, and those of the two lists. As
/// at Google, any other parameter is an error.
fn parameters(call: &ApiCall, query: &str) -> Result<(ListQuery, DevicesQuery), ApiError> {
    let (mut list, mut devices) = (ListQuery::default(), DevicesQuery::default());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            ("alt", "json") | ("prettyPrint", _) => {}
            (name, value) if matches!(call, ApiCall::List(_)) && list.read(name, value)? => {}
            (name, value) if matches!(call, ApiCall::Devices(_)) && devices.read(name, value)? => {}
            (name, _) => {
                let message = format!(
                    "Invalid JSON payload received. Unknown name {}: Cannot bind query parameter. Field '{name}' \
                     could not be found in request message.",
                    Value::from(name)
                );
                return Err(ApiError::invalid_argument("", message));
            }
        }
    }
    Ok((list, devices))
}

/// Parses the JSON body of a request.
pub(crate) fn json_body(head: &Parts, body: &[u8]) -> Result<Value, ApiError> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        let message = "The body of a request must be of the content type application/json.";
        return Err(ApiError::invalid_argument("", message));
    }
    serde_json::from_slice(body).map_err(|error| {
        // serde_json's message may quote a password, so this message has only the position.
        let (line, column) = (error.line(), error.column());
        let message = format!("Invalid JSON payload received. Malformed at line {line}, column {column}.");
        ApiError::invalid_argument("", message)
    })
}

/// Rejects a body with content, because cancel has no request in the discovery document. An empty message, `{}`, is
/// accepted with any content type.
fn require_empty(body: &[u8]) -> Result<(), ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let problem = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => match fields.keys().next() {
            None => return Ok(()),
            Some(name) => format!("Unknown name {}: Cannot find field.", Value::from(name.as_str())),
        },
        _ => "The request body must be empty.".to_owned(),
    };
    Err(ApiError::invalid_argument("", format!("Invalid JSON payload received. {problem}")))
}
