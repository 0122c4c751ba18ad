//! The body of `issueCommand`. Fields and rules are those of the schema `Command` in the API's discovery document.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::api_error::ApiError;

/// The types of commands, each with the field of its parameters. A body with that field needs no `type`.
const TYPES: [(&str, Option<&str>); 11] = [
    ("LOCK", None),
    ("RESET_PASSWORD", Some("newPassword")),
    ("REBOOT", None),
    ("RELINQUISH_OWNERSHIP", None),
    ("CLEAR_APP_DATA", Some("clearAppsDataParams")),
    ("START_LOST_MODE", Some("startLostModeParams")),
    ("STOP_LOST_MODE", Some("stopLostModeParams")),
    ("ADD_ESIM", Some("addEsimParams")),
    ("REMOVE_ESIM", Some("removeEsimParams")),
    ("REQUEST_DEVICE_INFO", Some("requestDeviceInfoParams")),
    ("WIPE", Some("wipeParams")),
];

/// The maximum of `google.protobuf.Duration`, about 10,000 years.
const MAX_DURATION_SECONDS: u64 = 315_576_000_000;

/// A valid command.
#[derive(Clone, PartialEq)]
pub(crate) struct Command {
    /// One of the names in `Command.type`.
    pub(crate) kind: &'static str,
    /// The validity, if the body has one.
    pub(crate) duration: Option<Duration>,
    /// The parameters, unchanged. They may hold a password, so this type has no Debug.
    pub(crate) parameters: Map<String, Value>,
}

impl Command {
    pub(crate) fn parse(body: Value) -> Result<Self, ApiError> {
        let Value::Object(mut fields) = body else {
            let message = "Invalid JSON payload received. The body is not an object of type Command.";
            return Err(ApiError::invalid_argument("", message));
        };
        // In protobuf's JSON form, a null is an absent field.
        fields.retain(|name, value| !value.is_null() && !is_output_only(name));
        let kind = fields.remove("type");
        let duration = fields.remove("duration").map(|value| duration(&value)).transpose()?;
        for (name, value) in &fields {
            check_parameter(name, value)?;
        }
        Ok(Self { kind: command_type(kind.as_ref(), &fields)?, duration, parameters: fields })
    }
}

/// Whether only the server writes a field. In a request it is ignored.
fn is_output_only(name: &str) -> bool {
    matches!(name, "createTime" | "userName" | "errorCode") || name.ends_with("Status")
}

/// The command's type: the one in `given`, which must match the parameters, or the one that they imply.
fn command_type(given: Option<&Value>, fields: &Map<String, Value>) -> Result<&'static str, ApiError> {
    let mut implied = TYPES
        .iter()
        .filter(|(_, field)| field.is_some_and(|field| fields.contains_key(field)))
        .map(|(kind, _)| *kind);
    let (first, second) = (implied.next(), implied.next());
    if second.is_some() {
        let message = "A command must have the parameters of one type only.";
        return Err(ApiError::invalid_argument("command", message));
    }
    let kind = match given {
        None => None,
        Some(Value::String(name)) if name == "COMMAND_TYPE_UNSPECIFIED" => None,
        Some(value) => Some(find_type(value).ok_or_else(|| {
            let of = "type.googleapis.com/google.android.devicemanagement.v1.Command.CommandType";
            ApiError::invalid_argument("type", format!("Invalid value at 'type' ({of}), {value}"))
        })?),
    };
    match (kind, first) {
        (Some(kind), Some(implied)) if kind != implied => {
            let message = format!("Parameters of {implied} in a command of type {kind}.");
            Err(ApiError::invalid_argument("command", message))
        }
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Err(ApiError::invalid_argument("type", "Command type is required.")),
    }
}

fn find_type(value: &Value) -> Option<&'static str> {
    let name = value.as_str()?;
    TYPES.iter().find(|(kind, _)| *kind == name).map(|(kind, _)| *kind)
}

fn check_parameter(name: &str, value: &Value) -> Result<(), ApiError> {
    let valid = match name {
        "newPassword" => value.is_string(),
        "addEsimParams" => value.as_object().is_some_and(|params| {
            ["activationCode", "activationState"]
                .iter()
                .all(|name| params.get(*name).is_none_or(|value| value.is_null() || value.is_string()))
        }),
        "resetPasswordFlags" => value.as_array().is_some_and(|flags| flags.iter().all(Value::is_string)),
        _ if TYPES.iter().any(|(_, field)| *field == Some(name)) => value.is_object(),
        _ => {
            let message = format!(
                "Invalid JSON payload received. Unknown name {}: Cannot find field.",
                Value::from(name)
            );
            return Err(ApiError::invalid_argument("", message));
        }
    };
    // The value may be a secret, so the message omits it.
    let message = || format!("Invalid value at '{name}'");
    if valid { Ok(()) } else { Err(ApiError::invalid_argument(name, message())) }
}

fn duration(value: &Value) -> Result<Duration, ApiError> {
    let message =
        || format!("Invalid value at 'duration' (type.googleapis.com/google.protobuf.Duration), {value}");
    let error = || ApiError::invalid_argument("duration", message());
    let duration = value.as_str().and_then(parse_duration);
    // Google does not publish what the API does with zero.
    duration.filter(|duration| !duration.is_zero()).ok_or_else(error)
}

/// Parses protobuf's JSON form of a duration: seconds, with up to nine decimals and the letter s.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let seconds = seconds.parse().ok().filter(|seconds| *seconds <= MAX_DURATION_SECONDS)?;
    Some(Duration::new(seconds, format!("{decimals:0<9}").parse().ok()?))
}

/// Formats protobuf's JSON form of a duration: 0, 3, 6 or 9 decimals, as few as are exact.
pub(crate) fn format_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match nanos {
        0 => format!("{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{seconds}.{nanos:09}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rejected_field(body: Value) -> String {
        match Command::parse(body) {
            Ok(command) => format!("accepted as {}", command.kind),
            Err(error) => {
                assert_eq!(error.http_status(), 400);
                assert_eq!(error.status(), "INVALID_ARGUMENT");
                error.body()["error"]["details"][0]["fieldViolations"][0]["field"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }
        }
    }

    #[test]
    fn every_type_is_accepted() {
        for (kind, _) in TYPES {
            let command = Command::parse(json!({ "type": kind })).unwrap();
            assert_eq!(command.kind, kind);
        }
    }

    #[test]
    fn parameters_imply_their_type() {
        for (kind, field) in TYPES {
            let Some(field) = field else { continue };
            let value = if field == "newPassword" { json!("123456") } else { json!({}) };
            let command = Command::parse(json!({ field: value.clone() })).unwrap();
            assert_eq!((command.kind, &command.parameters[field]), (kind, &value));
        }
    }

    #[test]
    fn an_invalid_body_is_rejected_with_its_field() {
        assert_eq!(rejected_field(json!({})), "type");
        assert_eq!(rejected_field(json!({ "type": "COMMAND_TYPE_UNSPECIFIED" })), "type");
        assert_eq!(rejected_field(json!({ "type": "DANCE" })), "type");
        assert_eq!(rejected_field(json!({ "type": 1 })), "type");
        assert_eq!(rejected_field(json!({ "type": "LOCK", "wipeParams": {} })), "command");
        assert_eq!(rejected_field(json!({ "newPassword": "1", "wipeParams": {} })), "command");
        assert_eq!(rejected_field(json!({ "newPassword": 123_456 })), "newPassword");
        assert_eq!(rejected_field(json!({ "addEsimParams": { "activationCode": 1 } })), "addEsimParams");
        assert_eq!(rejected_field(json!({ "type": "LOCK", "colour": "red" })), "");
        assert_eq!(rejected_field(json!(["LOCK"])), "");
        for duration in ["600", "-1s", "0s", "1.s", ".5s", "1e3s", "1.0000000001s", "315576000001s"] {
            assert_eq!(rejected_field(json!({ "type": "LOCK", "duration": duration })), "duration");
        }
    }

    #[test]
    fn output_only_fields_are_ignored() {
        let body = json!({ "type": "LOCK", "createTime": "1970-01-01T00:00:00Z", "userName": "x" });
        assert!(Command::parse(body).unwrap().parameters.is_empty());
    }

    #[test]
    fn an_error_does_not_repeat_a_password() {
        let body = json!({ "newPassword": ["s3cret"] });
        let error = Command::parse(body).err().unwrap();
        assert!(!error.body().to_string().contains("s3cret"));
    }

    #[test]
    fn durations_are_formatted_with_as_few_decimals_as_possible() {
        let forms = [
            ("600s", "600s"),
            ("1.5s", "1.500s"),
            ("0.000250s", "0.000250s"),
            ("3.000000001s", "3.000000001s"),
            ("315576000000s", "315576000000s"),
        ];
        for (given, formatted) in forms {
            let read = duration(&Value::from(given)).unwrap();
            assert_eq!(format_duration(read), formatted);
        }
    }
}
