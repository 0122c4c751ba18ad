//! The body of `issueCommand`, checked as the API checks it.
//!
//! Fields and rules are those of the schema `Command` in the API's discovery document.

use std::time::Duration;

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Each type of command, with the field that holds its parameters: a body with that field alone is of
/// that type.
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

/// Fields that the server alone writes: it ignores them in a request.
const OUTPUT_ONLY: [&str; 8] = [
    "createTime",
    "userName",
    "errorCode",
    "clearAppsDataStatus",
    "startLostModeStatus",
    "stopLostModeStatus",
    "esimStatus",
    "requestDeviceInfoStatus",
];

/// The longest `google.protobuf.Duration`, about 10,000 years.
const LONGEST: u64 = 315_576_000_000;

/// A command that the API would take.
#[derive(Clone, PartialEq)]
pub(super) struct Command {
    /// One of the names in `Command.type`.
    pub(super) kind: &'static str,
    /// How long it is valid, where the body says so.
    pub(super) duration: Option<Duration>,
    /// The parameters, as they came. They may hold a password: this type does not print.
    pub(super) parameters: Map<String, Value>,
}

impl Command {
    /// Checks a body, already parsed as JSON.
    pub(super) fn parse(body: Value) -> Result<Self, Refusal> {
        let Value::Object(mut fields) = body else {
            let message = "Invalid JSON payload received. The body is no object of type Command.";
            return Err(Refusal::invalid_argument("", message));
        };
        // As in protobuf's JSON form, a null is an absent field.
        fields.retain(|name, value| !value.is_null() && !OUTPUT_ONLY.contains(&name.as_str()));
        let given = fields.remove("type");
        let duration = fields.remove("duration").map(|value| duration(&value)).transpose()?;
        for (name, value) in &fields {
            check_parameter(name, value)?;
        }
        Ok(Self { kind: kind(given.as_ref(), &fields)?, duration, parameters: fields })
    }
}

/// The command's type: the one given, which the parameters must suit, or the one they imply.
fn kind(given: Option<&Value>, fields: &Map<String, Value>) -> Result<&'static str, Refusal> {
    let mut implied = TYPES
        .iter()
        .filter(|(_, field)| field.is_some_and(|field| fields.contains_key(field)))
        .map(|(kind, _)| *kind);
    let (first, second) = (implied.next(), implied.next());
    if second.is_some() {
        let message = "A command has the parameters of one type only.";
        return Err(Refusal::invalid_argument("command", message));
    }
    let kind = match given {
        None => None,
        Some(Value::String(name)) if name == "COMMAND_TYPE_UNSPECIFIED" => None,
        Some(value) => Some(known(value).ok_or_else(|| {
            let of = "type.googleapis.com/google.android.devicemanagement.v1.Command.CommandType";
            Refusal::invalid_argument("type", format!("Invalid value at 'type' ({of}), {value}"))
        })?),
    };
    match (kind, first) {
        (Some(kind), Some(implied)) if kind != implied => {
            let message = format!("Parameters of {implied} in a command of type {kind}.");
            Err(Refusal::invalid_argument("command", message))
        }
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Err(Refusal::invalid_argument("type", "Command type is required.")),
    }
}

fn known(value: &Value) -> Option<&'static str> {
    let name = value.as_str()?;
    TYPES.iter().find(|(kind, _)| *kind == name).map(|(kind, _)| *kind)
}

fn check_parameter(name: &str, value: &Value) -> Result<(), Refusal> {
    let sound = match name {
        "newPassword" => value.is_string(),
        "resetPasswordFlags" => value.as_array().is_some_and(|flags| flags.iter().all(Value::is_string)),
        _ if TYPES.iter().any(|(_, field)| *field == Some(name)) => value.is_object(),
        _ => {
            let message = format!(
                "Invalid JSON payload received. Unknown name {}: Cannot find field.",
                Value::from(name)
            );
            return Err(Refusal::invalid_argument("", message));
        }
    };
    // The value itself may be a secret, so the message leaves it out.
    let message = || format!("Invalid value at '{name}'");
    if sound { Ok(()) } else { Err(Refusal::invalid_argument(name, message())) }
}

/// Reads how long a command is valid.
fn duration(value: &Value) -> Result<Duration, Refusal> {
    let message =
        || format!("Invalid value at 'duration' (type.googleapis.com/google.protobuf.Duration), {value}");
    let refusal = || Refusal::invalid_argument("duration", message());
    let duration = value.as_str().and_then(parse_duration);
    // Nothing public says what the API makes of zero; a command that is never valid helps nobody.
    duration.filter(|duration| !duration.is_zero()).ok_or_else(refusal)
}

/// Reads protobuf's JSON form of a duration: seconds, with up to nine decimals and the letter s.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let seconds = seconds.parse().ok().filter(|seconds| *seconds <= LONGEST)?;
    Some(Duration::new(seconds, format!("{decimals:0<9}").parse().ok()?))
}

/// Writes protobuf's JSON form of a duration: 0, 3, 6 or 9 decimals, as few as are exact.
pub(super) fn format_duration(duration: Duration) -> String {
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

    fn refused(body: Value) -> String {
        match Command::parse(body) {
            Ok(command) => format!("taken as {}", command.kind),
            Err(refusal) => {
                assert_eq!(refusal.http_status(), 400);
                assert_eq!(refusal.status(), "INVALID_ARGUMENT");
                refusal.body()["error"]["details"][0]["fieldViolations"][0]["field"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }
        }
    }

    #[test]
    fn every_type_is_taken() {
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
    fn a_wrong_body_is_refused_at_its_field() {
        assert_eq!(refused(json!({})), "type");
        assert_eq!(refused(json!({ "type": "COMMAND_TYPE_UNSPECIFIED" })), "type");
        assert_eq!(refused(json!({ "type": "DANCE" })), "type");
        assert_eq!(refused(json!({ "type": 1 })), "type");
        assert_eq!(refused(json!({ "type": "LOCK", "wipeParams": {} })), "command");
        assert_eq!(refused(json!({ "newPassword": "1", "wipeParams": {} })), "command");
        assert_eq!(refused(json!({ "newPassword": 123_456 })), "newPassword");
        assert_eq!(refused(json!({ "type": "LOCK", "colour": "red" })), "");
        assert_eq!(refused(json!(["LOCK"])), "");
        for duration in ["600", "-1s", "0s", "1.s", ".5s", "1e3s", "1.0000000001s", "315576000001s"] {
            assert_eq!(refused(json!({ "type": "LOCK", "duration": duration })), "duration");
        }
    }

    #[test]
    fn what_only_the_server_writes_is_ignored() {
        let body = json!({ "type": "LOCK", "createTime": "1970-01-01T00:00:00Z", "userName": "x" });
        assert!(Command::parse(body).unwrap().parameters.is_empty());
    }

    #[test]
    fn a_refusal_does_not_repeat_a_password() {
        let body = json!({ "newPassword": ["s3cret"] });
        let refusal = Command::parse(body).err().unwrap();
        assert!(!refusal.body().to_string().contains("s3cret"));
    }

    #[test]
    fn durations_come_back_in_their_shortest_form() {
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
