//! One operation: a command for a device, and its JSON in the API.
//!
//! An operation has no timer. Its deadlines are known when it is issued or cancelled, and each read computes its
//! outcome from them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::command::{Command, format_duration};
use crate::settings::Settings;

const COMMAND: &str = "type.googleapis.com/google.android.devicemanagement.v1.Command";

pub(crate) struct Operation {
    /// The resource name.
    pub(crate) name: String,
    command: Command,
    user: String,
    created: SystemTime,
    duration: Duration,
    /// When the device runs the command, unless it was cancelled or expired before; `None` for never.
    pick_up: Option<Instant>,
    /// When the command expires; `None` beyond the range of the clock.
    expiry: Option<Instant>,
    /// When a cancel takes effect, if one was requested.
    cancel: Option<Instant>,
    /// The number of cancels that were requested, with or without an effect.
    pub(crate) cancel_requests: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Executed,
    Cancelled,
    Expired,
}

impl Operation {
    /// Creates an operation. `issued` and `created` are the current time of the monotonic clock and the wall clock.
    pub(crate) fn new(
        name: String,
        user: String,
        command: Command,
        settings: &Settings,
        issued: Instant,
        created: SystemTime,
    ) -> Self {
        let duration = command.duration.unwrap_or(settings.command_duration);
        Self {
            name,
            command,
            user,
            created,
            duration,
            pick_up: settings.pick_up.and_then(|delay| issued.checked_add(delay)),
            expiry: issued.checked_add(duration),
            cancel: None,
            cancel_requests: 0,
        }
    }

    /// The outcome at `now`. The earliest deadline decides. In a tie, the device decides, because neither expiry nor
    /// a cancel undoes a command that was run.
    pub(crate) fn outcome(&self, now: Instant) -> Outcome {
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

    /// Cancels at `effect`, unless an earlier request has set that time already.
    pub(crate) fn cancel(&mut self, effect: Option<Instant>) {
        self.cancel = self.cancel.or(effect);
    }

    /// Makes the device run the command at `now`, if it is still pending.
    pub(crate) fn execute(&mut self, now: Instant) {
        if self.outcome(now) == Outcome::Pending {
            self.pick_up = Some(now);
        }
    }

    /// The type of its command.
    pub(crate) fn kind(&self) -> &'static str {
        self.command.kind
    }

    /// The JSON of the `Operation` resource at `now`.
    ///
    /// A `WIPE` ends with neither response nor error, as users of the API have seen. The `error.code` 4
    /// (`DEADLINE_EXCEEDED`) of an expired command is a guess.
    pub(crate) fn to_json(&self, now: Instant) -> Value {
        let mut operation = json!({ "name": self.name, "metadata": self.command_json() });
        let outcome = self.outcome(now);
        if outcome != Outcome::Pending {
            operation["done"] = true.into();
        }
        match outcome {
            Outcome::Executed if self.command.kind == "WIPE" => {}
            Outcome::Executed => operation["response"] = self.command_json(),
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

    /// The command as the API returns it: the caller's fields and the server's. A new password is in clear, as at
    /// Google.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn issue(command: Value, pick_up: Option<Duration>, at: Instant) -> Operation {
        let settings = Settings { pick_up, ..Settings::default() };
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(1_786_048_723_669);
        let command = Command::parse(command).unwrap();
        Operation::new("operations/1".to_owned(), "users/1".to_owned(), command, &settings, at, created)
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
    fn a_cancel_after_the_pick_up_has_no_effect() {
        let start = Instant::now();
        let mut operation = issue(json!({ "type": "LOCK" }), Some(30 * SECOND), start);
        operation.cancel(Some(start + 30 * SECOND));
        assert_eq!(operation.outcome(start + 31 * SECOND), Outcome::Executed);
    }
}
