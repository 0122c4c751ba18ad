//! One operation: a command on its way to a device, and what the API shows of it.
//!
//! An operation has no timer. The moments that decide about it are known when it is issued or
//! cancelled, and each look at it works out what has happened by then.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::command::{Command, format_duration};

const COMMAND: &str = "type.googleapis.com/google.android.devicemanagement.v1.Command";

/// An operation since its issue.
pub(super) struct Operation {
    /// The resource name.
    pub(super) name: String,
    command: Command,
    user: String,
    created: SystemTime,
    duration: Duration,
    /// When the device runs the command, unless something comes first; `None` for never.
    pick_up: Option<Instant>,
    /// When the command is no longer valid; `None` beyond what the clock can count.
    expiry: Option<Instant>,
    /// When a cancel takes effect, once one was asked for.
    cancel: Option<Instant>,
}

/// When a command is issued, in both clocks, and how long its stages take from then on.
pub(super) struct Schedule {
    pub(super) issued: Instant,
    pub(super) created: SystemTime,
    pub(super) pick_up: Option<Duration>,
    pub(super) default_duration: Duration,
}

/// What has become of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    Executed,
    Cancelled,
    Expired,
}

impl Operation {
    pub(super) fn new(name: String, user: String, command: Command, schedule: &Schedule) -> Self {
        let Schedule { issued, created, pick_up, default_duration } = *schedule;
        let duration = command.duration.unwrap_or(default_duration);
        Self {
            name,
            command,
            user,
            created,
            duration,
            pick_up: pick_up.and_then(|delay| issued.checked_add(delay)),
            expiry: issued.checked_add(duration),
            cancel: None,
        }
    }

    /// What has become of it by `now`: whichever moment came first decides. Of moments that coincide, the
    /// device's wins, since neither expiry nor cancel can call back a command that was run.
    pub(super) fn outcome(&self, now: Instant) -> Outcome {
        let moments = [
            (self.pick_up, Outcome::Executed),
            (self.cancel, Outcome::Cancelled),
            (self.expiry, Outcome::Expired),
        ];
        let past = moments.into_iter().filter_map(|(moment, outcome)| {
            moment.filter(|moment| *moment <= now).map(|moment| (moment, outcome))
        });
        // min_by_key keeps the first of equals.
        past.min_by_key(|(moment, _)| *moment).map_or(Outcome::Pending, |(_, outcome)| outcome)
    }

    /// Asks for a cancel that takes effect at `effect`; a request made before keeps its own moment.
    pub(super) fn cancel(&mut self, effect: Option<Instant>) {
        self.cancel = self.cancel.or(effect);
    }

    /// Lets the device run the command at `now`, if it is still pending.
    pub(super) fn execute(&mut self, now: Instant) {
        if self.outcome(now) == Outcome::Pending {
            self.pick_up = Some(now);
        }
    }

    /// The type of its command.
    pub(super) fn kind(&self) -> &'static str {
        self.command.kind
    }

    /// The JSON of the `Operation` resource at `now`.
    ///
    /// A `WIPE` ends with neither response nor error, as users of the API have seen. That an expired
    /// command shows `error.code` 4 (`DEADLINE_EXCEEDED`) is a guess: nothing public says.
    pub(super) fn to_json(&self, now: Instant) -> Value {
        let mut operation = json!({ "name": self.name, "metadata": self.command_json() });
        let outcome = self.outcome(now);
        if outcome != Outcome::Pending {
            operation["done"] = true.into();
        }
        match outcome {
            Outcome::Executed if self.command.kind == "WIPE" => {}
            Outcome::Executed => operation["response"] = self.response(),
            Outcome::Cancelled => {
                operation["error"] = json!({ "code": 1, "message": "The operation was cancelled." });
            }
            Outcome::Expired => {
                let message = "The command expired before the device ran it.";
                operation["error"] = json!({ "code": 4, "message": message });
            }
            Outcome::Pending => {}
        }
        operation
    }

    /// The command as the API gives it back: what the caller sent, and what the server added. A new
    /// password is in it in clear, as it is at Google.
    fn command_json(&self) -> Value {
        let mut command = self.command.parameters.clone();
        let created = humantime::format_rfc3339_millis(self.created).to_string();
        command.insert("@type".to_owned(), COMMAND.into());
        command.insert("type".to_owned(), self.command.kind.into());
        command.insert("createTime".to_owned(), created.into());
        command.insert("duration".to_owned(), format_duration(self.duration).into());
        command.insert("userName".to_owned(), self.user.as_str().into());
        Value::Object(command)
    }

    /// The response of a command that was run: the command with the status that its type reports.
    fn response(&self) -> Value {
        let mut response = self.command_json();
        let success = json!({ "status": "SUCCESS" });
        match self.command.kind {
            "START_LOST_MODE" => response["startLostModeStatus"] = success,
            "STOP_LOST_MODE" => response["stopLostModeStatus"] = success,
            "ADD_ESIM" | "REMOVE_ESIM" => response["esimStatus"] = success,
            "REQUEST_DEVICE_INFO" => {
                response["requestDeviceInfoStatus"] = json!({ "status": "SUCCEEDED" });
            }
            "CLEAR_APP_DATA" => {
                let packages = &self.command.parameters.get("clearAppsDataParams");
                let packages = packages.and_then(|params| params["packageNames"].as_array());
                let results = packages.into_iter().flatten().filter_map(Value::as_str);
                response["clearAppsDataStatus"]["results"] = results
                    .map(|package| (package.to_owned(), json!({ "clearingResult": "SUCCESS" })))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn issue(command: Value, pick_up: Option<Duration>, at: Instant) -> Operation {
        let schedule = Schedule {
            issued: at,
            created: SystemTime::UNIX_EPOCH + Duration::from_millis(1_786_048_723_669),
            pick_up,
            default_duration: 600 * SECOND,
        };
        let command = Command::parse(command).unwrap();
        Operation::new("operations/1".to_owned(), "users/1".to_owned(), command, &schedule)
    }

    #[test]
    fn a_command_is_pending_until_the_device_runs_it() {
        let start = Instant::now();
        let operation = issue(json!({ "type": "LOCK" }), Some(30 * SECOND), start);
        let pending = operation.to_json(start + 29 * SECOND);
        assert_eq!(pending["metadata"]["createTime"], "2026-08-06T20:38:43.669Z");
        assert_eq!(pending["metadata"]["duration"], "600s");
        assert_eq!((&pending["done"], &pending["response"]), (&Value::Null, &Value::Null));
        let done = operation.to_json(start + 30 * SECOND);
        assert_eq!(done["done"], true);
        assert_eq!(done["response"], done["metadata"]);
        assert_eq!(done["response"]["@type"], COMMAND);
        assert_eq!(done["error"], Value::Null);
    }

    #[test]
    fn a_wipe_ends_with_neither_response_nor_error() {
        let start = Instant::now();
        let done = issue(json!({ "type": "WIPE" }), Some(SECOND), start).to_json(start + SECOND);
        assert_eq!(done["done"], true);
        assert!(done.get("response").is_none() && done.get("error").is_none());
    }

    #[test]
    fn a_command_that_no_device_runs_expires_after_its_duration() {
        let start = Instant::now();
        let body = json!({ "type": "LOCK", "duration": "90s" });
        for pick_up in [None, Some(91 * SECOND)] {
            let operation = issue(body.clone(), pick_up, start);
            assert_eq!(operation.outcome(start + 89 * SECOND), Outcome::Pending);
            let expired = operation.to_json(start + 100 * SECOND);
            assert_eq!((&expired["done"], &expired["error"]["code"]), (&json!(true), &json!(4)));
            assert!(expired.get("response").is_none());
        }
    }

    #[test]
    fn a_cancel_in_time_ends_it_with_code_1() {
        let start = Instant::now();
        let mut operation = issue(json!({ "type": "LOCK" }), Some(30 * SECOND), start);
        operation.cancel(Some(start + 10 * SECOND));
        operation.cancel(Some(start + 20 * SECOND));
        assert_eq!(operation.outcome(start + 9 * SECOND), Outcome::Pending);
        let cancelled = operation.to_json(start + 31 * SECOND);
        assert_eq!((&cancelled["done"], &cancelled["error"]["code"]), (&json!(true), &json!(1)));
        assert!(cancelled["error"]["message"].as_str().unwrap().contains("cancelled"));
    }

    #[test]
    fn a_cancel_that_comes_too_late_changes_nothing() {
        let start = Instant::now();
        let mut operation = issue(json!({ "type": "LOCK" }), Some(30 * SECOND), start);
        operation.cancel(Some(start + 30 * SECOND));
        assert_eq!(operation.outcome(start + 31 * SECOND), Outcome::Executed);
    }

    #[test]
    fn a_response_reports_what_its_type_reports() {
        let start = Instant::now();
        let done = |body| issue(body, Some(SECOND), start).to_json(start + SECOND)["response"].clone();
        let cleared = done(json!({ "clearAppsDataParams": { "packageNames": ["a.b"] } }));
        let results = &cleared["clearAppsDataStatus"]["results"];
        assert_eq!(results, &json!({ "a.b": { "clearingResult": "SUCCESS" } }));
        assert_eq!(done(json!({ "startLostModeParams": {} }))["startLostModeStatus"]["status"], "SUCCESS");
    }
}
