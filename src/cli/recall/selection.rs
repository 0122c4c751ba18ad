//! The operations that a recall cancels: by enterprise, device, type and creation time.

use std::{collections::BTreeSet, fmt, time::SystemTime};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    name::{DeviceName, InvalidName, OperationName, check_enterprise},
    operations::filter::{MAX_COMPARISONS, MAX_LENGTH},
};

/// The types of commands: the values of `Command.type` in AMAPI's discovery document, revision 20261104.
const KNOWN_TYPES: [&str; 11] = [
    "LOCK",
    "RESET_PASSWORD",
    "REBOOT",
    "RELINQUISH_OWNERSHIP",
    "CLEAR_APP_DATA",
    "START_LOST_MODE",
    "STOP_LOST_MODE",
    "ADD_ESIM",
    "REMOVE_ESIM",
    "REQUEST_DEVICE_INFO",
    "WIPE",
];

/// The operations to cancel. It is the first line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selection {
    /// `enterprises/*`.
    pub(super) enterprise: String,
    /// The names of the devices; all devices of the enterprise if there are none.
    pub(super) devices: BTreeSet<String>,
    /// The types; all types if there are none.
    pub(super) types: BTreeSet<String>,
    pub(super) since: Option<TimeLimit>,
    pub(super) until: Option<TimeLimit>,
}

/// A limit of the creation time. The limit itself is included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TimeLimit {
    /// The argument: a duration before the start of the first run, or a time.
    argument: String,
    time: UtcTime,
}

/// A time from 1970 to 9999, as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct UtcTime(OffsetDateTime);

impl Selection {
    /// Whether the arguments of two selections are equal. The times of durations are not compared, because a duration
    /// is one before the start of the first run.
    pub(super) fn has_arguments_of(&self, other: &Self) -> bool {
        let argument = |limit: &Option<TimeLimit>| limit.as_ref().map(|limit| limit.argument.clone());
        let Self { enterprise, devices, types, since, until } = self;
        (enterprise, devices, types) == (&other.enterprise, &other.devices, &other.types)
            && argument(since) == argument(&other.since)
            && argument(until) == argument(&other.until)
    }

    /// Checks that the time limits leave a time before `now`.
    ///
    /// # Errors
    ///
    /// `since` is in the future, or later than `until`.
    pub(super) fn check_times(&self, now: UtcTime) -> Result<(), String> {
        let Some(since) = &self.since else { return Ok(()) };
        if since.time > now {
            return Err(format!("--since {} is in the future, so no command can match", since.argument));
        }
        match &self.until {
            Some(until) if since.time > until.time => Err(format!(
                "--since {} is later than --until {}, so no command can match; a duration counts back from now",
                since.argument, until.argument
            )),
            _ => Ok(()),
        }
    }

    /// The types that this version does not know. The API may have new ones.
    pub(super) fn unknown_types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(String::as_str).filter(|kind| !KNOWN_TYPES.contains(kind))
    }

    fn has_type(&self, kind: Option<&str>) -> bool {
        self.types.is_empty() || kind.is_some_and(|kind| self.types.contains(kind))
    }

    /// Whether a limit excludes a pending operation of this type only because its creation time is unknown.
    pub(super) fn lacks_time(&self, kind: Option<&str>, created: Option<UtcTime>) -> bool {
        created.is_none() && (self.since.is_some() || self.until.is_some()) && self.has_type(kind)
    }

    /// Whether the selection has a pending operation of this type and creation time. A limit excludes an operation
    /// whose time is unknown.
    pub(super) fn matches(&self, kind: Option<&str>, created: Option<UtcTime>) -> bool {
        let has_type = self.has_type(kind);
        let is_after = |limit: &TimeLimit| created.is_some_and(|created| created >= limit.time);
        let is_before = |limit: &TimeLimit| created.is_some_and(|created| created <= limit.time);
        has_type && self.since.as_ref().is_none_or(is_after) && self.until.as_ref().is_none_or(is_before)
    }

    /// Whether the selection has the device of this operation.
    pub(super) fn has_device_of(&self, operation: &str) -> bool {
        OperationName::parse(operation).is_ok_and(|name| {
            let device = name.device();
            let is_listed = self.devices.is_empty() || self.devices.contains(device.as_str());
            is_listed && self.enterprise.strip_prefix("enterprises/") == Some(device.enterprise())
        })
    }

    /// The filter of a list over all devices. Countermand evaluates it. It only saves responses, because the recall checks
    /// type and time itself. So a filter that the server would refuse for its length has neither. The list of one device
    /// has no filter, because the API documents no field of its filter, and a filter that is ignored or refused would
    /// hide operations.
    pub(super) fn filter(&self) -> String {
        const PENDING: &str = "done = false";
        let Self { enterprise: _, devices: _, types, since, until } = self;
        let mut filter = PENDING.to_owned();
        let types: Vec<_> = types.iter().map(|kind| format!("metadata.type = \"{kind}\"")).collect();
        if !types.is_empty() {
            filter += &format!(" AND ({})", types.join(" OR "));
        }
        for (operator, limit) in [(">=", since), ("<=", until)] {
            if let Some(limit) = limit {
                filter += &format!(" AND metadata.createTime {operator} \"{}\"", limit.time);
            }
        }
        let comparisons = 1 + types.len() + since.iter().chain(until).count();
        match filter.len() <= MAX_LENGTH && comparisons <= MAX_COMPARISONS {
            true => filter,
            false => PENDING.to_owned(),
        }
    }

    /// The name for a list over all devices.
    pub(super) fn all_devices(&self) -> String {
        format!("{}/devices/-", self.enterprise)
    }
}

/// For people, after a noun: `of type WIPE on all devices of enterprises/LC01 since 2026-01-31T12:00:00Z`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enterprise, devices, types, since, until } = self;
        let types: Vec<_> = types.iter().map(String::as_str).collect();
        match types.is_empty() {
            true => write!(f, "of all types")?,
            false => write!(f, "of type {}", types.join(", "))?,
        }
        match devices.len() {
            0 => write!(f, " on all devices of {enterprise}")?,
            1 => write!(f, " on 1 device of {enterprise}")?,
            count => write!(f, " on {count} devices of {enterprise}")?,
        }
        for (word, limit) in [("since", since), ("until", until)] {
            if let Some(limit) = limit {
                write!(f, " {word} {}", limit.time)?;
            }
        }
        Ok(())
    }
}

/// Parses an enterprise, `LC01` or `enterprises/LC01`. Returns its name.
///
/// # Errors
///
/// The id is not a valid segment of a name.
pub(super) fn enterprise(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("enterprises/").unwrap_or(text);
    match check_enterprise(id) {
        Ok(()) => Ok(format!("enterprises/{id}")),
        Err(InvalidName::Wildcard(_)) => {
            Err("give one enterprise; the wildcard - is not accepted".to_owned())
        }
        Err(_) if id.contains("/devices/") => {
            Err("give the enterprise alone; --device selects a device".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a device of `enterprise`: its id, or its name. Returns its name.
///
/// # Errors
///
/// The id is not a valid segment of a name, or the device is one of another enterprise.
pub(super) fn device(enterprise: &str, text: &str) -> Result<String, String> {
    let name = if text.starts_with("enterprises/") {
        text.to_owned()
    } else {
        format!("{enterprise}/devices/{text}")
    };
    match DeviceName::parse(&name) {
        Ok(device) if device.as_str() != name => Err(format!("{text:?} is not a device")),
        Ok(device) if format!("enterprises/{}", device.enterprise()) != enterprise => {
            Err(format!("{text} is not a device of {enterprise}"))
        }
        Ok(device) => Ok(device.as_str().to_owned()),
        Err(InvalidName::Wildcard(_)) => {
            Err("the wildcard - is not accepted; omit --device to select all devices".to_owned())
        }
        Err(InvalidName::Pattern(_)) => {
            Err(format!("{text:?} is not a device; give its id, or its name enterprises/*/devices/*"))
        }
        Err(error @ InvalidName::Segment(_)) => Err(format!("{text:?}: {error}")),
    }
}

/// Parses a type, for example `WIPE`. A type in another spelling would match nothing, without an error.
///
/// # Errors
///
/// The text has a character that a type cannot have.
pub(super) fn command_type(text: &str) -> Result<String, String> {
    let is_valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match !text.is_empty() && text.bytes().all(is_valid) {
        true => Ok(text.to_owned()),
        false => Err("give a type in capital letters, for example WIPE".to_owned()),
    }
}

/// Parses a limit: a duration before now, such as `15m`, or a time in RFC 3339.
///
/// # Errors
///
/// The text is neither.
pub(super) fn time_limit(text: &str) -> Result<TimeLimit, String> {
    let argument = text.to_owned();
    if let Ok(time) = text.parse() {
        return Ok(TimeLimit { argument, time });
    }
    let invalid = || "give a duration before now, such as 15m, or a time such as 2026-01-31T12:00:00Z";
    let duration = humantime::parse_duration(text).map_err(|_| invalid())?;
    let duration = duration.try_into().map_err(|_| invalid())?;
    let time = OffsetDateTime::now_utc().checked_sub(duration).ok_or_else(invalid)?;
    Ok(TimeLimit { argument, time: time.try_into()? })
}

impl UtcTime {
    pub(super) fn now() -> Self {
        Self(SystemTime::now().into())
    }
}

impl TryFrom<OffsetDateTime> for UtcTime {
    type Error = &'static str;

    fn try_from(time: OffsetDateTime) -> Result<Self, Self::Error> {
        // humantime formats only these.
        const YEAR_10000: i64 = 253_402_300_800;
        match (0..YEAR_10000).contains(&time.unix_timestamp()) {
            true => Ok(Self(time)),
            false => Err("the time is not between 1970 and 9999"),
        }
    }
}

impl std::str::FromStr for UtcTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "this is not a time in RFC 3339")?.try_into()
    }
}

impl TryFrom<String> for UtcTime {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UtcTime> for String {
    fn from(time: UtcTime) -> Self {
        time.to_string()
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339(self.0.into()).fmt(f)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::recall) fn selection(types: &[&str]) -> Selection {
        Selection {
            enterprise: "enterprises/LC01".to_owned(),
            devices: BTreeSet::new(),
            types: types.iter().map(|&kind| kind.to_owned()).collect(),
            since: None,
            until: None,
        }
    }

    fn time(text: &str) -> Option<UtcTime> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_limits_of_the_time_are_included() {
        let selection = Selection {
            since: Some(time_limit("2026-01-01T00:00:00Z").unwrap()),
            until: Some(time_limit("2026-01-02T01:00:00+01:00").unwrap()),
            ..selection(&["WIPE"])
        };
        for (created, is_selected) in [
            (time("2025-12-31T23:59:59.999Z"), false),
            (time("2026-01-01T00:00:00Z"), true),
            (time("2026-01-02T00:00:00Z"), true),
            (time("2026-01-02T00:00:00.000000001Z"), false),
            (None, false),
        ] {
            assert_eq!(selection.matches(Some("WIPE"), created), is_selected, "{created:?}");
            assert!(!selection.matches(Some("LOCK"), created) && !selection.matches(None, created));
        }
        let filter = "done = false AND (metadata.type = \"WIPE\") AND metadata.createTime >= \"2026-01-01T00:00:00Z\" \
                      AND metadata.createTime <= \"2026-01-02T00:00:00Z\"";
        assert_eq!(selection.filter(), filter);
    }

    #[test]
    fn a_selection_without_types_has_all() {
        let all = selection(&[]);
        assert!(all.matches(None, None) && all.matches(Some("LOCK"), None));
        assert_eq!(all.filter(), "done = false");
        let two = selection(&["WIPE", "LOCK"]);
        assert_eq!(two.filter(), "done = false AND (metadata.type = \"LOCK\" OR metadata.type = \"WIPE\")");
        // The limits of the server.
        let types = |count: usize, length: usize| {
            let types = (0..count).map(|number| format!("T{number:0>length$}")).collect();
            Selection { types, since: Some(time_limit("15m").unwrap()), ..selection(&[]) }
        };
        for (types, is_sent) in
            [(types(62, 4), true), (types(63, 4), false), (types(1, 8000), true), (types(1, 8192), false)]
        {
            assert_eq!(types.filter() != "done = false", is_sent, "{}", types.filter().len());
            assert!(types.filter().parse::<crate::operations::filter::Filter>().is_ok());
        }
    }

    #[test]
    fn a_limit_is_a_duration_or_a_time() {
        let limit = time_limit("15m").unwrap();
        let age = UtcTime::now().0 - limit.time.0;
        assert!((age - time::Duration::minutes(15)).abs() < time::Duration::minutes(1), "{age}");
        for invalid in
            ["", "15", "yesterday", "2026-01-01", "-15m", "100y", "99999999d", "1969-12-31T23:59:59Z"]
        {
            assert!(time_limit(invalid).is_err(), "{invalid}");
        }
        assert!(time_limit("9999-12-31T23:59:59-01:00").is_err());
    }

    #[test]
    fn the_time_limits_must_leave_a_time_before_now() {
        let now = "2026-06-01T12:00:00Z";
        for (since, until, part) in [
            (None, Some("2026-01-01T00:00:00Z"), None),
            (Some("2026-01-01T00:00:00Z"), None, None),
            (Some(now), Some(now), None),
            (Some(now), Some("2030-01-01T00:00:00Z"), None),
            (Some("2026-06-01T12:00:01Z"), None, Some("--since 2026-06-01T12:00:01Z is in the future")),
            (
                Some("2026-06-01T12:00:00+00:00"),
                Some("2026-06-01T11:59:59Z"),
                Some("--since 2026-06-01T12:00:00+00:00 is later than --until 2026-06-01T11:59:59Z"),
            ),
        ] {
            let limit = |text: Option<&str>| text.map(|text| time_limit(text).unwrap());
            let selection = Selection { since: limit(since), until: limit(until), ..selection(&["WIPE"]) };
            match (selection.check_times(now.parse().unwrap()), part) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.starts_with(part), "{error}"),
                (result, _) => panic!("{since:?} {until:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_type_that_the_api_does_not_document_is_unknown() {
        let selection = selection(&["LOCK", "WIPPE", "WIPE", "REMOVE_ESIM"]);
        assert_eq!(selection.unknown_types().collect::<Vec<_>>(), ["WIPPE"]);
    }

    #[test]
    fn a_duration_is_the_same_argument_in_a_later_run() {
        let first = Selection { since: Some(time_limit("15m").unwrap()), ..selection(&[]) };
        let mut later = first.clone();
        later.since.as_mut().unwrap().time = time("2030-01-01T00:00:00Z").unwrap();
        assert!(later.has_arguments_of(&first));
        later.since = Some(time_limit("16m").unwrap());
        assert!(!later.has_arguments_of(&first));
        assert!(!selection(&["LOCK"]).has_arguments_of(&selection(&["WIPE"])));
    }

    #[test]
    fn names_are_ids_or_whole_names() {
        for text in ["LC01", "enterprises/LC01"] {
            assert_eq!(enterprise(text).as_deref(), Ok("enterprises/LC01"));
        }
        for text in ["", "-", "a/b", "enterprises/LC01/devices/d1"] {
            assert!(enterprise(text).is_err(), "{text}");
        }
        for text in ["d1", "enterprises/LC01/devices/d1"] {
            assert_eq!(device("enterprises/LC01", text).as_deref(), Ok("enterprises/LC01/devices/d1"));
        }
        for text in ["", "-", "d1/operations", "enterprises/LC02/devices/d1", "d1/operations/1"] {
            assert!(device("enterprises/LC01", text).is_err(), "{text}");
        }
        assert!(command_type("wipe").is_err() && command_type("").is_err());
    }
}
