//! The page token of a list over all devices: base64url of a JSON object with the position.
//!
//! A token needs no secret and no memory of this process, because it grants nothing: each page is authorized again, and
//! so is each device. A caller can write a token, so it is read like any other untrusted field.

use std::collections::VecDeque;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;

use crate::{
    amapi::{MAX_DEVICES, MAX_UPSTREAM_TOKEN},
    fingerprint::fingerprint,
    name::{DeviceName, EnterpriseName},
};

/// The version of the format.
const VERSION: u32 = 1;

/// The position of a list over all devices.
///
/// It has the remaining devices of a page of devices, rather than the last device that was read. A page of devices that is
/// fetched again can have other devices, or the same ones in another order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// The devices that are not finished, in order. At most [`MAX_DEVICES`].
    pub(super) devices: VecDeque<DeviceName>,
    /// The upstream's token of the next page of the first device's operations. Empty for its first page.
    pub(super) operations_token: String,
    /// The upstream's token of the next page of devices. Empty for the first page, `None` after the last one.
    pub(super) devices_token: Option<String>,
}

/// The reason why a page token is not valid. `Display` is for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPageToken {
    #[error("must be a next_page_token of ListOperations with the same name and filter")]
    Malformed,
    #[error("is of a list with another name")]
    OtherName,
    #[error("is of a list with another filter")]
    OtherFilter,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFields {
    version: u32,
    enterprise: String,
    /// The fingerprint of the filter's text.
    filter: String,
    devices: Vec<String>,
    operations_token: String,
    devices_token: Option<String>,
}

impl Position {
    /// The position before the first device.
    pub(super) fn start() -> Self {
        let devices_token = Some(String::new());
        Self { devices: VecDeque::new(), operations_token: String::new(), devices_token }
    }

    /// Reads a token of a list of `enterprise` with the text of a filter. An empty token is that of the start.
    ///
    /// # Errors
    ///
    /// See [`InvalidPageToken`].
    pub(super) fn read(
        token: &str,
        enterprise: &EnterpriseName,
        filter: &str,
    ) -> Result<Self, InvalidPageToken> {
        if token.is_empty() {
            return Ok(Self::start());
        }
        let malformed = InvalidPageToken::Malformed;
        let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed)?;
        let fields: TokenFields = serde_json::from_slice(&json).map_err(|_| malformed)?;
        if fields.version != VERSION {
            return Err(malformed);
        }
        if fields.enterprise != enterprise.id() {
            return Err(InvalidPageToken::OtherName);
        }
        if fields.filter != fingerprint_of(filter) {
            return Err(InvalidPageToken::OtherFilter);
        }
        let is_long = |token: &String| token.len() > MAX_UPSTREAM_TOKEN;
        let has_no_device = fields.devices.is_empty();
        let is_at_end = has_no_device && fields.devices_token.is_none();
        if fields.devices.len() > MAX_DEVICES
            || is_long(&fields.operations_token)
            || fields.devices_token.as_ref().is_some_and(is_long)
            || has_no_device && !fields.operations_token.is_empty()
            || is_at_end
        {
            return Err(malformed);
        }
        let devices = fields.devices.iter().map(|id| enterprise.device(id));
        Ok(Self {
            devices: devices.collect::<Result<_, _>>().map_err(|_| malformed)?,
            operations_token: fields.operations_token,
            devices_token: fields.devices_token,
        })
    }

    /// The token of this position. Empty at the end of the list.
    pub(super) fn write(self, enterprise: &EnterpriseName, filter: &str) -> String {
        let Self { devices, operations_token, devices_token } = self;
        if devices.is_empty() && devices_token.is_none() {
            return String::new();
        }
        let devices: Vec<_> = devices.iter().map(DeviceName::device_id).collect();
        let fields = json!({
            "version": VERSION,
            "enterprise": enterprise.id(),
            "filter": fingerprint_of(filter),
            "devices": devices,
            "operations_token": operations_token,
            "devices_token": devices_token,
        });
        URL_SAFE_NO_PAD.encode(fields.to_string())
    }
}

/// Half of the SHA-256 of a filter, which only has to differ for the filters of one caller.
fn fingerprint_of(filter: &str) -> String {
    URL_SAFE_NO_PAD.encode(&fingerprint(filter.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Engine, EnterpriseName, InvalidPageToken, Position, URL_SAFE_NO_PAD, fingerprint_of};
    use crate::name::ListParent;

    fn enterprise(id: &str) -> EnterpriseName {
        match ListParent::parse(&format!("enterprises/{id}/devices/-")) {
            Ok(ListParent::AllDevices(enterprise)) => enterprise,
            other => panic!("{other:?}"),
        }
    }

    fn read(token: &str) -> Result<Position, InvalidPageToken> {
        Position::read(token, &enterprise("LC01"), "done = false")
    }

    fn fields() -> Value {
        let filter = fingerprint_of("done = false");
        json!({"version": 1, "enterprise": "LC01", "filter": filter, "devices": ["d1", "d2"],
               "operations_token": "o", "devices_token": "d"})
    }

    fn encoded(fields: &Value) -> String {
        URL_SAFE_NO_PAD.encode(fields.to_string())
    }

    #[test]
    fn a_token_is_valid_for_its_name_and_its_filter_only() {
        let token = read(&encoded(&fields())).expect("a position").write(&enterprise("LC01"), "done = false");
        let again = read(&token).expect("a position");
        let ids: Vec<_> = again.devices.iter().map(|device| device.device_id()).collect();
        assert_eq!((ids, &*again.operations_token), (vec!["d1", "d2"], "o"));
        assert_eq!(again.devices_token.as_deref(), Some("d"));
        let other_name = Position::read(&token, &enterprise("LC02"), "done = false");
        assert_eq!(other_name, Err(InvalidPageToken::OtherName));
        for filter in ["", "done = false ", "done = true"] {
            let other_filter = Position::read(&token, &enterprise("LC01"), filter);
            assert_eq!(other_filter, Err(InvalidPageToken::OtherFilter));
        }
    }

    #[test]
    fn the_start_and_the_end_of_a_list_have_an_empty_token() {
        let end = Position { devices_token: None, ..Position::start() };
        assert_eq!(end.write(&enterprise("LC01"), ""), "");
        assert_eq!(read(""), Ok(Position::start()));
        // A devices page without devices may be followed by another page.
        let before_next = Position { devices_token: Some("d".to_owned()), ..Position::start() };
        let token = before_next.clone().write(&enterprise("LC01"), "done = false");
        assert_eq!(read(&token), Ok(before_next));
    }

    #[test]
    fn a_malformed_token_is_rejected() {
        let with = |member: &str, value: Value| {
            let mut fields = fields();
            fields[member] = value;
            encoded(&fields)
        };
        let ids = |count| (0..count).map(|id| id.to_string()).collect::<Vec<_>>();
        assert!(read(&with("devices", json!(ids(100)))).is_ok());
        for token in [
            with("devices", json!(ids(101))),
            with("devices", json!([])),
            with("devices", json!(["-"])),
            with("devices", json!(["d1/operations"])),
            with("devices", json!(["../../LC02/devices/d1"])),
            with("devices", json!([1])),
            with("version", json!(2)),
            with("version", json!(-1)),
            with("operations_token", json!("o".repeat(4097))),
            with("devices_token", json!("d".repeat(4097))),
            with("other", json!(1)),
            encoded(&json!({})),
            encoded(&json!([])),
            format!("{}=", encoded(&fields())),
            "!".to_owned(),
            "AAAA".to_owned(),
            URL_SAFE_NO_PAD.encode("[".repeat(10_000)),
        ] {
            assert_eq!(read(&token), Err(InvalidPageToken::Malformed), "{token}");
        }
        let mut at_end = fields();
        at_end["devices"] = json!([]);
        at_end["operations_token"] = json!("");
        at_end["devices_token"] = Value::Null;
        assert_eq!(read(&encoded(&at_end)), Err(InvalidPageToken::Malformed));
    }

    proptest! {
        #[test]
        fn a_position_is_read_as_it_was_written(
            ids in proptest::collection::vec("[A-Za-z0-9_.~-]{2,20}x", 0..100),
            operations_token in ".{0,40}",
            devices_token in proptest::option::of(".{0,40}"),
            filter in ".*",
        ) {
            let enterprise = enterprise("LC01");
            let devices = ids.iter().map(|id| enterprise.device(id).expect("valid")).collect();
            let operations_token = if ids.is_empty() { String::new() } else { operations_token };
            let position = Position { devices, operations_token, devices_token };
            let token = position.clone().write(&enterprise, &filter);
            if token.is_empty() {
                prop_assert!(position.devices.is_empty() && position.devices_token.is_none());
            } else {
                prop_assert_eq!(Position::read(&token, &enterprise, &filter), Ok(position));
            }
        }

        #[test]
        fn any_text_is_a_token_or_an_error(text in ".*", json in ".*", at in 0..400_usize, byte: u8) {
            let mut changed = encoded(&fields()).into_bytes();
            let length = changed.len();
            changed[at % length] = byte;
            for token in [text, URL_SAFE_NO_PAD.encode(json), String::from_utf8_lossy(&changed).into_owned()] {
                if let Ok(position) = read(&token) {
                    let written = position.clone().write(&enterprise("LC01"), "done = false");
                    prop_assert_eq!(read(&written), Ok(position));
                }
            }
        }
    }
}
