//! The members of Google's JSON that hold secrets.
//!
//! A member is listed if its value lets a reader unlock a device or take over a line. The other members of the schema
//! `Command` (<https://developers.google.com/android/management/reference/rest/v1/enterprises.devices/issueCommand>) are
//! not listed, because callers need them to recognize a command:
//!
//! - `resetPasswordFlags`, `wipeDataFlags`, `packageNames` and `deviceInfo` say what the command does.
//! - `wipeReason`, `lostMessage`, `lostPhoneNumber`, `lostEmailAddress`, `lostStreetAddress` and `lostOrganization` are
//!   shown on the screen of the device.
//! - `userName` is the resource name of a user.
//! - `iccId` and `eid` identify a SIM and a chip. Neither gives access.
//! - The members whose names end in `Status`, and `errorCode`, are outcomes.

use serde_json::Value;

/// The names of the members.
const SENSITIVE_MEMBERS: [&str; 2] = [
    // `Command.newPassword`: the password of a RESET_PASSWORD, in clear text.
    "newPassword",
    // `AddEsimParams.activationCode`: the code of an ADD_ESIM. Its holder can download the eSIM profile (GSMA
    // SGP.22, section 4.1).
    "activationCode",
];

/// Replaces the value of each sensitive member by a text, at any depth and whatever the type of the value.
pub(super) fn redact(json: &mut Value) {
    match json {
        Value::Object(members) => {
            for (name, member) in members {
                if SENSITIVE_MEMBERS.contains(&name.as_str()) {
                    *member = Value::from("[redacted]");
                } else {
                    redact(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_every_type_are_replaced_at_any_depth() {
        let mut deep = json!("kept");
        let mut redacted = deep.clone();
        for name in SENSITIVE_MEMBERS {
            for value in [
                json!("s3cret"),
                json!(123_456),
                json!({"a": "s3cret"}),
                json!(["s3cret"]),
                json!(true),
                json!(null),
            ] {
                deep = json!({"x": [[{name: value, "iccId": "8949"}, deep]]});
                redacted = json!({"x": [[{name: "[redacted]", "iccId": "8949"}, redacted]]});
            }
        }
        redact(&mut deep);
        assert_eq!(deep, redacted);
    }
}
